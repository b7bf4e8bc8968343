"""Tensors of the Open Inference Protocol (v2): a column of a table each, as JSON or as the bytes behind it.

The bytes are those of the binary tensor data extension: little-endian, row after row; a text is its length in four
bytes, then itself in UTF-8. A text means what a cell of a CSV file means, and not-a-number that a number is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .contract import Contract
from .errors import BadRequest
from .field import Field
from .schemas import Broken, from_text

TEXT = "BYTES"
NUMBERS = {
    "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4",
    "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
TYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL"}  # of all other kinds: TEXT

Tensor = tuple[str, str, list[int], list[Any]]  # name, datatype, shape, values row after row


def datatype(field: Field) -> str:
    """Return the datatype of a field's tensor; a number may come as any of NUMBERS."""
    return TYPES.get(field.kind, TEXT)


def columns(sent: Any, binary: bytes, contract: Contract) -> dict[str, list[Any]]:
    """Return the values of each tensor of a request by its name, as the contract's schema takes them.

    `binary` is what followed the JSON. Raises BadRequest where a tensor is not well formed, is of a datatype that its
    field does not have, or has another number of rows than the others.
    """
    if type(sent) is not list or not sent:
        raise BadRequest("`inputs` must be a list of tensors, one for each column.")
    known, found, place = {field.name: field for field in contract.fields}, dict[str, list[Any]](), 0
    for number, tensor in enumerate(sent):
        where = f"inputs/{number}"
        name, kind, shape = _head(tensor, where)
        size = _parameter(tensor, "binary_data_size", int, where)
        if size is None:
            values = _flat(tensor.get("data"), where)
        elif 0 <= size <= len(binary) - place:
            values = list(_unpacked(binary[place : place + size], kind, where))
            place += size
        else:
            raise BadRequest(f"{where}: there are not as many bytes as binary_data_size says.")
        if len(values) != shape[0] or len(values) != len(next(iter(found.values()), values)):
            raise BadRequest(f"{where}: all tensors must have the same number of rows, and as many values.")
        if name in found:
            raise BadRequest(f"{where}: the tensor of this name is there already.")
        field = known.get(name)
        if field is not None:
            due = datatype(field)
            if kind != due and not (due in NUMBERS and kind in NUMBERS):
                raise BadRequest(f"{where}: this must be of the datatype {due}.")
            values = [_meant(field, value, kind, contract.missing) for value in values]
        found[name] = values
    if place != len(binary):
        raise BadRequest("There are more bytes behind the JSON than its tensors name.")
    return found


def _head(tensor: Any, where: str) -> tuple[str, str, list[int]]:
    if type(tensor) is not dict:
        raise BadRequest(f"{where}: this must be a tensor: an object with name, datatype, shape and data.")
    name, kind, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if type(name) is not str:
        raise BadRequest(f"{where}: `name` must be the name of a column.")
    if type(kind) is not str or kind not in (*NUMBERS, "BOOL", TEXT):
        raise BadRequest(f"{where}: `datatype` must be one of {', '.join(NUMBERS)}, BOOL and {TEXT}.")
    if type(shape) is not list or [type(one) for one in shape] not in ([int], [int, int]) or shape[1:] not in ([], [1]):
        raise BadRequest(f"{where}: `shape` must be [rows] or [rows, 1].")
    return name, kind, shape


def _parameter(holder: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """Return a parameter of a tensor or a request, None where it has none."""
    parameters = holder.get("parameters")
    given = parameters.get(name) if type(parameters) is dict else None
    if given is not None and type(given) is not kind:
        raise BadRequest(f"{where}: the parameter {name} is of another kind.")
    return given


def _flat(data: Any, where: str) -> list[Any]:
    if type(data) is not list:
        raise BadRequest(f"{where}: the tensor has neither `data`, a list, nor a parameter binary_data_size.")
    if data and all(type(row) is list and len(row) == 1 for row in data):
        return [value for (value,) in data]
    return data


def _unpacked(raw: bytes, kind: str, where: str) -> Iterator[Any]:
    if kind == TEXT:
        yield from _texts(raw, where)
        return
    if kind == "BOOL":
        if raw.strip(b"\0\1"):
            raise BadRequest(f"{where}: each byte must be 0 or 1.")
        yield from map(bool, raw)
        return
    if len(raw) % np.dtype(NUMBERS[kind]).itemsize:
        raise BadRequest(f"{where}: the number of bytes is not that of a whole number of values.")
    yield from np.frombuffer(raw, NUMBERS[kind]).tolist()


def _texts(raw: bytes, where: str) -> Iterator[str]:
    place = 0
    while place < len(raw):
        start = place + 4
        place = start + int.from_bytes(raw[place:start], "little")
        if start > len(raw) or place > len(raw):
            raise BadRequest(f"{where}: the last text is longer than the tensor.")
        try:
            yield raw[start:place].decode()
        except UnicodeDecodeError:
            raise BadRequest(f"{where}: this is not UTF-8.") from None


def _meant(field: Field, value: Any, kind: str, missing: Sequence[str]) -> Any:
    if type(value) is float and math.isnan(value):
        return None
    if type(value) is not str or kind != TEXT:
        return value
    try:
        return from_text(field, value, missing)
    except Broken:
        return value  # as it is: the schema says what is wrong with it


def packed(kind: str, values: Sequence[Any]) -> bytes:
    """Return the bytes of a tensor's values."""
    if kind != TEXT:
        return np.array(values, NUMBERS[kind]).tobytes()
    texts = [value.encode() for value in values]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def wanted(asked: Any, request: dict[str, Any], there: Sequence[Tensor]) -> list[tuple[Tensor, bool]]:
    """Return which tensors a request wants, in its order, and whether each as bytes; without `outputs`, all.

    Raises BadRequest where it asks for another one, or for one in a form that there is not.
    """
    all_binary = bool(_parameter(request, "binary_data_output", bool, "parameters"))
    if asked is None or asked == []:
        return [(tensor, all_binary) for tensor in there]
    if type(asked) is not list:
        raise BadRequest("`outputs` must be a list.")
    by_name, found = {tensor[0]: tensor for tensor in there}, []
    for number, one in enumerate(asked):
        where = f"outputs/{number}"
        name = one.get("name") if type(one) is dict else None
        if type(name) is not str or name not in by_name:
            raise BadRequest(f"{where}: `name` must be one of {', '.join(by_name)}.")
        given = one.get("parameters") or {}
        if type(given) is not dict or given.keys() - {"binary_data"}:
            raise BadRequest(f"{where}: the only parameter that an output takes is binary_data.")
        binary = _parameter(one, "binary_data", bool, where)
        found.append((by_name[name], all_binary if binary is None else binary))
    return found
