"""Row 2: bad and hostile input through every door, behind nginx and without it: refused as it should be, none kept."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pysqlite3 import dbapi2
from tests.page import form as typed
from tests.proxy import Proxied

from reviewapp import csvfiles
from reviewapp.contract import Contract
from reviewapp.samples import example_record

from . import attacks
from .doors import Answer, Door, doors
from .figures import Figure, all_of, below, none
from .instances import proxied

PREDICT, BATCH, BULK = "/api/v1/predictions", "/api/v1/predictions/batch", "/api/v1/predictions/bulk?dry_run=true"
REFUSED = {400, 405, 406, 413, 415, 422, 431, 501}
LONGEST_ANSWER = 64 << 10
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
FILE_FORM = f"multipart/form-data; boundary={attacks.BOUNDARY}"
LEFT_OUT = {"no colon"}  # lines that nginx does not hand on, and answers without
Case = TypeVar("Case", bound=tuple[object, ...])
_STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3})", re.MULTILINE)


@dataclass
class Tally:
    """How many requests were sent, and which were not answered as they must be."""

    sent: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    longest: int = 0

    def check(self, name: str, answer: Answer, expected: set[int], *, problem: bool) -> None:
        self.sent += 1
        self.slowest = max(self.slowest, answer.seconds)
        if answer.status >= 400:
            self.longest = max(self.longest, len(answer.body))
        kind = answer.kind == "application/problem+json" or not problem
        if answer.status not in expected or not kind or b"Traceback" in answer.body:
            self.wrong.append(f"{name}: {answer.status} {answer.kind} {answer.body[:200]!r}")

    def figure(self, what: str) -> Figure:
        for one in self.wrong[:20]:
            print(f"   {one}", flush=True)
        return all_of(what, self.sent - len(self.wrong), self.sent)


class Attack:
    """What is sent through one door, and how it was answered; of the long lists `some`."""

    def __init__(
        self, running: Proxied, door: Door, record: attacks.Record, texts: dict[str, str], some: slice
    ) -> None:
        self.door, self.running, self.record, self.texts, self.some = door, running, record, texts, some
        self.signed = {"Authorization": f"Bearer {running.reviewer}"}

    def post(self, path: str, kind: str, body: bytes | Iterable[bytes], **more: str) -> Answer:
        return self.door.call("POST", path, body, {**self.signed, "Content-Type": kind, **more})

    def _of(self, all_there_are: Iterable[Case]) -> list[Case]:
        return list(all_there_are)[self.some]

    def json(self) -> Tally:
        """Bodies alone, each as a request, and each as a line of a file of requests."""
        tally = Tally()
        for name, body in self._of(attacks.json_bodies(self.record)):
            tally.check(name, self.post(PREDICT, JSON, body), REFUSED, problem=True)
            answer = self.post(BULK, "application/x-ndjson", body.replace(b"\n", b" "))
            if answer.status == 200:
                rows = [line for line in answer.body.splitlines() if not line.startswith(b'{"summary"')]
                answer = Answer(200 if all(b'"problem"' in row for row in rows) else 0, *_rest(answer))
            tally.check(f"{name} as a line", answer, REFUSED | {200}, problem=answer.status != 200)
        for name, body in self._of(attacks.json_bodies(self.record, b'{"inputs": [', b"]}")):
            tally.check(f"{name} in a batch", self.post(BATCH, JSON, body), REFUSED, problem=True)
        return tally

    def requests(self) -> Tally:
        """Right bodies under wrong headers and methods, and packed ones."""
        tally = Tally()
        good = attacks.request(self.record)
        for headers in attacks.WRONG_HEADERS:
            body = attacks.BOMB if "Content-Encoding" in headers else good
            answer = self.door.call("POST", PREDICT, body, {**self.signed, **headers})
            tally.check(str(headers), answer, {400, 415}, problem=True)
        for method in attacks.WRONG_METHODS:
            answer = self.door.call(method, PREDICT, good, {**self.signed, "Content-Type": JSON})
            tally.check(method, answer, {400, 404, 405, 501}, problem=method not in ("CONNECT", "TRACE"))
        return tally

    def heads(self) -> Tally:
        """Requests that are not well formed: one refusal, and nothing after it."""
        tally = Tally()
        for name, raw in attacks.heads("/livez"):
            said = self.door.raw(raw)
            codes = [int(code) for code in _STATUS.findall(said) if code != b"100"]
            tally.sent += 1
            hung_up = not codes and not said
            if self.door.name == "nginx" and name in LEFT_OUT:
                hung_up = codes == [200]
            refused = len(codes) == 1 and 400 <= codes[0] < 510 and codes[0] not in (500, 502, 503, 504)
            if not (hung_up or refused) or b"evil" in said or b"root:" in said or b"Traceback" in said:
                tally.wrong.append(f"{name}: {codes} {said[:200]!r}")
        return tally

    def forms(self) -> Tally:
        tally = Tally()
        for name, body in self._of(attacks.forms(self.texts)):
            tally.check(name, self.post("/", FORM, body), REFUSED, problem=False)
        return tally

    def files(self) -> tuple[Tally, int]:
        """Files as bulk and as uploads; return, too, how many uploads were answered and so recorded."""
        tally, recorded = Tally(), 0
        for name, content, answered in self._of(attacks.files(self.record)):
            answer = self.post(BULK, "text/csv", content)
            if answer.status == 200:
                answer = Answer(200 if _problems(answer.body) == [not answered] else 0, *_rest(answer))
            expected = {200} if answered else REFUSED | {200}
            tally.check(f"{name} as bulk", answer, expected, problem=answer.status != 200)
            answer = self.post("/upload", FILE_FORM, attacks.file_form(content))
            tally.check(f"{name} as upload", answer, {303} if answered else REFUSED | {303}, problem=False)
            recorded += answered
        for name, body in self._of(attacks.file_forms(self.record)):
            tally.check(name, self.post("/upload", FILE_FORM, body), REFUSED, problem=False)
        tally.check("no boundary", self.post("/upload", "multipart/form-data", b"x"), REFUSED, problem=False)
        return tally, recorded

    def right(self) -> Tally:
        """The same through the same doors as it should be: what is refused is refused for what is wrong with it."""
        tally = Tally()
        tally.check("JSON", self.post(PREDICT, JSON, attacks.request(self.record)), {201}, problem=False)
        tally.check("form", self.post("/", FORM, attacks.as_form(self.texts)), {303}, problem=False)
        return tally

    def large(self, megabytes: int) -> tuple[Tally, float]:
        """Bodies far above the limits; return, too, by how many MB the largest worker grew."""
        tally, kept = Tally(), 0.0
        routes = {PREDICT: JSON, "/": FORM}
        if self.door.name == "nginx" and megabytes > 32:  # without it, a file is read up to its own limit, 32 MiB
            routes |= {BULK: "text/csv", "/upload": FILE_FORM}
        for path, kind in routes.items():
            for chunked in (False, True):
                before = {pid: _peak(pid, anew=True) for pid in self.running.workers()}
                body = (b"1," * 32768 for _ in range(megabytes << 4)) if chunked else b"1," * (megabytes << 19)
                answer = self.post(path, kind, body, Accept="text/csv" if path == BULK else JSON)
                tally.check(f"{path} {'chunked' if chunked else 'at length'}", answer, {413}, problem=path != "/")
                grown = [_peak(pid) - peak for pid, peak in before.items() if Path(f"/proc/{pid}").exists()]
                kept = max(kept, *grown)
        return tally, kept

    def many_rows(self) -> Tally:
        """Batches of rows that have no field, up to the limit of the body; each is wrong in every field."""
        tally = Tally()
        for rows in (1000, 1001, 349_000):
            body = b'{"inputs":[' + b",".join([b"{}"] * rows) + b"]}"
            tally.check(f"{rows} rows", self.post(BATCH, JSON, body), {422}, problem=True)
        return tally


def run(folder: Path, *, full: bool) -> list[Figure]:
    figures: list[Figure] = []
    slowest, longest, right, grown = 0.0, 0, 0, 0.0
    with proxied(folder / "instance") as running:
        contract = Contract.from_json(running.call("GET", "/api/v1/contract")[1])
        record = example_record(contract)
        for number, door in enumerate(doors(running)):
            some = slice(None) if full else slice(number, None, 3)  # the short form sends a third of the long lists
            attack = Attack(running, door, record, typed(contract, record), some)
            files, recorded = attack.files()
            tallies = {
                "JSON, alone, in a batch and in a file": attack.json(),
                "headers, methods and packed bodies": attack.requests(),
                "requests that are not well formed": attack.heads(),
                "forms": attack.forms(),
                "files, as bulk and as upload": files,
                "right ones among them": attack.right(),
            }
            right += recorded + 2
            large, more = attack.large(100 if full else 16)
            tallies["bodies above the limit"] = large
            grown = max(grown, more)
            many = attack.many_rows()
            tallies["rows without fields"] = many
            figures += [
                tally.figure(f"{what}, answered as they must be ({door.name})") for what, tally in tallies.items()
            ]
            figures.append(below(f"1 MB of rows without fields ({door.name})", many.slowest, 1 if full else 10, "s"))
            slowest = max(slowest, *(tally.slowest for tally in tallies.values()))
            longest = max(longest, *(tally.longest for tally in tallies.values()))
        alive = running.call("GET", "/readyz", fresh=True)[0] == 200
    figures += [
        none("predictions recorded of what was refused", _recorded(running.instance) - right),
        none("failures in the log", running.log.read_text().count("failed:")),
        all_of("service ready afterwards", int(alive), 1),
        below("a worker grew over a body above the limit by", grown, 20, "MB", 1),
        below("slowest answer", slowest, 2 if full else 20, "s"),
        below("longest refusal", longest / 1024, LONGEST_ANSWER / 1024, "KiB", 1),
    ]
    return figures


def _rest(answer: Answer) -> tuple[str, bytes, float, dict[str, str]]:
    return answer.kind, answer.body, answer.seconds, answer.headers


def _problems(content: bytes) -> list[bool]:
    """Return whether each row of a file of answers has a problem."""
    [delimiter, *_] = csvfiles.delimiters(content, ["problem"])
    (_, header), *rows = csvfiles.records(content, delimiter)
    place = len(header) - 1 - header[::-1].index("problem")
    return [bool(cells[place]) for _, cells in rows]


def _recorded(instance: Path) -> int:
    connection = dbapi2.connect(f"file:{instance / 'reviewapp.sqlite3'}?mode=ro", uri=True)
    [count] = connection.execute("SELECT count(*) FROM predictions").fetchone()
    connection.close()
    return int(count)


def _peak(pid: int, *, anew: bool = False) -> float:
    """Return how much memory a process had at most, in MB; `anew`: count from now on."""
    if anew:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    [kilobytes] = re.findall(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(kilobytes) / 1024
