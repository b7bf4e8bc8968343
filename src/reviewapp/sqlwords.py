"""What SQLite and PostgreSQL say in different words: members of documents, and which index is not to be used."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ColumnElement, Dialect, Float, FromClause, Integer, Text, cast, func, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

POSTGRESQL = "postgresql"


class _Member(GenericFunction[str]):
    type = Text()
    inherit_cache = True


class _Number(GenericFunction[float]):
    type = Float()
    inherit_cache = True


class _Unsought(GenericFunction[str]):
    type = Text()
    inherit_cache = True


def member(column: ColumnElement[Any], *names: str) -> ColumnElement[str]:
    """Return a member of the document in a column, by the names on the way to it, as text."""
    return _Member(column, literal_column(".".join(names)))


def number(column: ColumnElement[Any], *names: str) -> ColumnElement[float]:
    """Return a member of the document in a column, by the names on the way to it, as a number."""
    return _Number(column, literal_column(".".join(names)))


def unsought(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return a column whose indexes SQLite is not to begin with; PostgreSQL, which counts rows, is left alone."""
    return _Unsought(column)


def numbers(column: ColumnElement[Any], dialect: Dialect) -> tuple[FromClause, ColumnElement[int], ColumnElement[int]]:
    """Return the whole numbers of a list in a column, to join: each with its place, from 0 on."""
    if dialect.name == POSTGRESQL:
        listed = func.json_array_elements_text(cast(column, JSON)).table_valued("value", with_ordinality="place")
        one = listed.render_derived()
        return one, one.c.place - literal_column("1"), cast(one.c.value, Integer)
    of = func.json_each(column).table_valued("key", "value")
    return of, of.c.key, of.c.value


@compiles(_Member, "sqlite")
@compiles(_Number, "sqlite")
def _in_sqlite(element: GenericFunction[Any], compiler: SQLCompiler, **how: Any) -> str:
    column, path = element.clauses
    return f"json_extract({compiler.process(column, **how)}, '$.{compiler.process(path, **how)}')"


@compiles(_Member, POSTGRESQL)
def _in_postgresql(element: GenericFunction[Any], compiler: SQLCompiler, **how: Any) -> str:
    column, path = element.clauses
    way = compiler.process(path, **how).replace(".", ",")
    return f"({compiler.process(column, **how)}::json #>> '{{{way}}}')"


@compiles(_Number, POSTGRESQL)
def _as_number(element: GenericFunction[Any], compiler: SQLCompiler, **how: Any) -> str:
    return f"{_in_postgresql(element, compiler, **how)}::double precision"


@compiles(_Unsought, "sqlite")
def _with_a_plus(element: GenericFunction[Any], compiler: SQLCompiler, **how: Any) -> str:
    return f"+{compiler.process(element.clauses, **how)}"


@compiles(_Unsought, POSTGRESQL)
def _as_it_is(element: GenericFunction[Any], compiler: SQLCompiler, **how: Any) -> str:
    return compiler.process(element.clauses, **how)
