"""What columns hold, the same on SQLite and on PostgreSQL: what the driver gives is what the chain hashes (chain.py).

So on PostgreSQL documents are texts, truths are numbers, and texts sort by their code points, as they do on SQLite. The
lengths that String takes say what is kept there; neither database is asked to hold anybody to them.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import JSON, BigInteger, Dialect, SmallInteger, TypeDecorator
from sqlalchemy import Boolean as _Boolean
from sqlalchemy import Float as _Float
from sqlalchemy import Integer as _Integer
from sqlalchemy import String as _String
from sqlalchemy import Text as _Text
from sqlalchemy.types import TypeEngine

_POSTGRESQL = "postgresql"
_BY_CODE_POINT = _Text(collation="C")


class _JsonText(TypeDecorator[Any]):
    """A document as the text that was written."""

    impl = _BY_CODE_POINT
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


class _Truth(TypeDecorator[bool]):
    """0 or 1."""

    impl = SmallInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:
        return None if value is None else int(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> bool | None:
        return None if value is None else bool(value)


class _Number(TypeDecorator[float]):
    """A number without a zero below zero, which SQLite does not tell from zero."""

    impl = _Float
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> float | None:
        return None if value is None else float(value) + 0.0


def String(length: int) -> TypeEngine[str]:  # noqa: N802 (stands for a type)
    """A text of so many characters at most."""
    return _String(length).with_variant(_BY_CODE_POINT, _POSTGRESQL)


Text: TypeEngine[str] = _Text().with_variant(_BY_CODE_POINT, _POSTGRESQL)
Integer: TypeEngine[int] = _Integer().with_variant(BigInteger(), _POSTGRESQL)  # a ledger may outgrow 2**31 rows
Float: TypeEngine[float] = _Float().with_variant(_Number(), _POSTGRESQL)
Boolean: TypeEngine[bool] = _Boolean().with_variant(_Truth(), _POSTGRESQL)
Json: TypeEngine[Any] = JSON(none_as_null=True).with_variant(_JsonText(), _POSTGRESQL)
