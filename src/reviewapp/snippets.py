"""A request as a program would send it, ready to copy: one curl command, one Python script."""

from __future__ import annotations

import pprint
import shlex

from . import strictjson
from .field import Record

ROUTE = "/api/v1/predictions"
TOKEN = "$TOKEN"  # noqa: S105 (the name of a variable of the shell)


def curl(base: str, record: Record, token: str | None = TOKEN, joint: str = " \\\n  ") -> str:
    """Return a command for a shell. The token stands in double quotes, so that a variable is filled in."""
    words = [f"curl -sS {shlex.quote(base + ROUTE)}", "-H 'Content-Type: application/json'"]
    if token is not None:
        words.append(f'-H "Authorization: Bearer {token}"')
    words.append(f"-d {shlex.quote(strictjson.dumps({'input': record}).decode())}")
    return joint.join(words)


def python(base: str, record: Record, *, token: bool = True) -> str:
    """Return a script that needs nothing but Python; the token comes from the variable TOKEN of the environment."""
    headers = '"Content-Type": "application/json"'
    if token:
        headers += ', "Authorization": f"Bearer {os.environ[\'TOKEN\']}"'
    return f"""\
import json, os, urllib.request

record = {pprint.pformat(record, indent=1, width=100, sort_dicts=False)}
request = urllib.request.Request(
    {base + ROUTE!r},
    data=json.dumps({{"input": record}}).encode(),
    headers={{{headers}}},
)
with urllib.request.urlopen(request) as response:
    print(json.load(response))
"""
