"""What is copied from a page is what a shell and Python read as the same request."""

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest

from reviewapp.snippets import curl, python

RECORD: dict[str, Any] = {
    "it's": 'a "quoted" $HOME `id` \\ !! text\nof two lines\u202e',
    "": None,
    "n": 0.1,
    "flag": True,
    "grün 🙂": "'; rm -rf /; '" * 20,
}


@pytest.mark.parametrize("joint", [" ", " \\\n  "])
def test_a_shell_reads_the_curl_line_as_it_is_meant(joint: str) -> None:
    line = curl("http://127.0.0.1:1", RECORD, joint=joint)
    echoed = subprocess.run(
        ["bash", "-c", f'curl() {{ printf "%s\\0" "$@"; }}; TOKEN=secret; {line}'], capture_output=True, check=True
    ).stdout.decode()
    words = echoed.split("\0")[:-1]
    assert words[:2] == ["-sS", "http://127.0.0.1:1/api/v1/predictions"]
    assert "Authorization: Bearer secret" in words
    assert json.loads(words[words.index("-d") + 1]) == {"input": RECORD}


def test_a_line_for_one_line_of_a_terminal_has_one_line() -> None:
    assert "\n" not in curl("http://127.0.0.1:1", {"a": "b\nc"}, "t", joint=" ")


def test_where_sign_in_is_off_no_token_is_asked_for() -> None:
    assert "TOKEN" not in curl("http://h", RECORD, None) + python("http://h", RECORD, token=False)
    assert shlex.split(curl("http://h", RECORD, None))[0] == "curl"


def test_python_sends_the_same_request() -> None:
    fake = """
import io, json, sys, urllib.request
def urlopen(request):
    print(json.dumps([request.full_url, json.loads(request.data), request.get_header("Authorization")]))
    return io.StringIO("null")
urllib.request.urlopen = urlopen
exec(sys.stdin.read())
"""
    script = python("http://127.0.0.1:1", RECORD)
    done = subprocess.run(
        [sys.executable, "-c", fake], input=script, capture_output=True, text=True, env={"TOKEN": "secret"}
    )
    assert done.returncode == 0, done.stderr
    url, body, token = json.loads(done.stdout.splitlines()[0])
    assert (url, body, token) == ("http://127.0.0.1:1/api/v1/predictions", {"input": RECORD}, "Bearer secret")
