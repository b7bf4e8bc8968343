"""What a service has done, counted by all its workers in one file of fixed size, through kills and restarts.

Each worker has a row of the file to itself, mapped into its memory: a count is a word there, so it outlives the process
without a call of the system. Which row that is, is a matter of locks: a worker takes the first one that no living
process holds, and the system takes the lock back from a process that ended, however it did. So a successor goes on in
the row of a worker that was killed, and there are no more rows in use than there ever were workers at a time.

What can be counted is known from the code: routes, statuses, stages, codes. Nothing that a caller sends is a name here.
Where the file cannot be had (the folder is read-only, the disk is full), a process counts in its memory.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import mmap
import os
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import add
from pathlib import Path
from typing import Any

from .stages import STAGES

log = logging.getLogger("reviewapp")

OTHER = "other"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", OTHER)
STATUSES = (
    200, 201, 204, 206, 303, 304, 308, 400, 401, 403, 404, 405, 406, 409, 413, 414, 415, 416, 417, 422, 429, 431,
    500, 501, 503, 507,
)  # fmt: skip
TIMED = (*STAGES, "total")
# Seconds; what takes longer than the last is counted beyond it.
BOUNDS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
# Why a request was refused: the codes of its mistakes, or the kind of the problem (errors.py) where it names none.
FLAWS = (
    "breaking_change", "control_character", "given_twice", "missing", "not_a_choice", "not_a_cursor", "not_a_date",
    "not_a_list", "not_a_time", "not_allowed_here", "not_an_object", "not_csv", "null_not_allowed", "other_order",
    "too_few_items", "too_large", "too_long", "too_many_items", "too_small", "unknown_member", "wrong_type",
)  # fmt: skip
PROBLEMS = (
    "address-too-long", "bad-request", "breaking-change", "conflict", "forbidden", "headers-too-large",
    "idempotency-key-reused", "invalid-contract", "invalid-input", "method-not-allowed", "not-acceptable", "not-found",
    "not-json", "release-refused", "too-large", "too-many-requests", "unauthenticated", "unsupported-media-type",
    "wrong-use",
)  # fmt: skip
CODES = (*FLAWS, *PROBLEMS, OTHER)
# What the objectives are not about: the questions of machines, files that are only handed out, what names no route.
APART = (
    "/livez", "/readyz", "/metrics", "/ping", "/health", "/version", "/v2", "/v2/health/live", "/v2/health/ready",
    "/v2/models/<string:model>/ready", "/v2/models/<string:model>/versions/<string:version>/ready",
    "/static/<path:filename>", OTHER,
)  # fmt: skip
# A whole file takes as long as it has rows, so it counts in the availability alone.
FILES = (
    "/api/v1/predictions/bulk", "/upload", "/upload/<upload_id>/continue", "/upload/<upload_id>/answers.csv",
    "/history.csv", "/history.jsonl",
)  # fmt: skip

SLOTS = 256  # rows of the file; one that no worker ever had takes no room on the disk
_WORD = 8  # bytes: a float, which holds whole numbers
_SANE = 2.0**53  # up to here all of them
# Where what lies in a row, in words; the requests by route, method and status come last.
_USED, _IN_FLIGHT, _DROPPED, _SERVED, _FAILURES, _REJECTED, _SLOW, _LATENCY = range(8)
_SUM = len(BOUNDS) + 1  # in a histogram: the sum, behind a number for each bound and one for what is beyond
_SPAN = _SUM + 1
_STAGES = _LATENCY + _SUM
_COMMITS = _STAGES + len(TIMED) * _SPAN
_CODES = _COMMITS + _SPAN
_REQUESTS = _CODES + len(CODES)
_STATUS = {status: i for i, status in enumerate(STATUSES)}
_CODE = {code: _CODES + i for i, code in enumerate(CODES)}

Route = tuple[str, str]  # the rule of its address, and a method

_lock = threading.Lock()  # of this process: its apps may share a row


@dataclass(frozen=True)
class Histogram:
    """How many took how long: a number for each of BOUNDS and one for what is beyond; and how many seconds in all."""

    counts: tuple[int, ...]
    seconds: float

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (bound, how many took no longer), the last bound `+Inf`, as Prometheus has it."""
        found, n = [], 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            n += count
            found.append((bound, float(n)))
        return found


@dataclass(frozen=True)
class Served:
    """What the objectives are held against: what people and scripts asked for.

    How many failed (a status of 500 or more), were refused (4xx), took too long; `latency` is as Histogram.counts.
    """

    requests: int = 0
    failures: int = 0
    rejected: int = 0
    slow: int = 0
    latency: tuple[int, ...] = (0,) * _SUM


@dataclass(frozen=True)
class Totals:
    """All counts since the file was made, of all workers that ever were."""

    requests: dict[tuple[str, str, str], int]  # (route, method, status); those that occurred
    rejected: dict[str, int]
    stages: dict[str, Histogram]
    commits: Histogram
    served: Served
    in_flight: int
    dropped: int


class Layout:
    """Where the requests of each route lie in a row; the digest stands for all that a row holds."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: tuple[Route, ...] = (*sorted(set(routes)), *((OTHER, method) for method in METHODS))
        width = len(STATUSES) + 1  # all other statuses have one place
        # (where its statuses begin, whether the objectives are about it, whether its time is)
        self.cells = {
            route: (_REQUESTS + i * width, route[0] not in APART, route[0] not in (*APART, *FILES))
            for i, route in enumerate(self.routes)
        }
        self.words = _REQUESTS + len(self.routes) * width
        page = mmap.ALLOCATIONGRANULARITY
        self.row = (self.words * _WORD + page - 1) // page * page
        told = (self.routes, STATUSES, TIMED, BOUNDS, CODES, APART, FILES, SLOTS, self.row)
        self.digest = hashlib.sha256(repr(told).encode()).hexdigest()[:12]

    def totals(self, words: Sequence[float]) -> Totals:
        """Return what the sums over all rows say."""
        named = [(*route, str(status)) for route in self.routes for status in (*STATUSES, OTHER)]
        whole = [int(word) for word in words]
        return Totals(
            requests={name: n for name, n in zip(named, whole[_REQUESTS : self.words], strict=True) if n},
            rejected=dict(zip(CODES, whole[_CODES:_REQUESTS], strict=True)),
            stages={name: _histogram(words, _STAGES + i * _SPAN) for i, name in enumerate(TIMED)},
            commits=_histogram(words, _COMMITS),
            served=Served(
                requests=whole[_SERVED],
                failures=whole[_FAILURES],
                rejected=whole[_REJECTED],
                slow=whole[_SLOW],
                latency=tuple(whole[_LATENCY:_STAGES]),
            ),
            in_flight=max(0, whole[_IN_FLIGHT]),
            dropped=whole[_DROPPED],
        )


class Counters:
    """The counts of one instance folder, as a process writes and reads them. Safe to share between threads.

    Nothing is counted before `lay_out` has said which routes there are; a command has none. The file is opened by
    `open`, else with the first count; a child opens it for itself. An answer is slow after `slow` seconds.
    """

    def __init__(self, folder: Path, slow: float = 0.1) -> None:
        self._folder, self._slow = folder, slow
        self._layout: Layout | None = None
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a new object, and in a child, whose parent goes on in its own row."""
        global _lock  # noqa: PLW0603 (a thread of the parent may have held it)
        _lock = threading.Lock()
        self._words: Any = None
        self._file: int | None = None
        self._slot = 0

    def lay_out(self, routes: Iterable[Route]) -> None:
        """Say what there is to count, before the first request."""
        self._layout = Layout(routes)

    # ---- counting ---------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """A request begins."""
        if self._words is None:
            self.open()
        words = self._words
        with _lock:
            words[_IN_FLIGHT] += 1.0

    def leave(self) -> None:
        """A request ends that was counted otherwise."""
        self._add((_IN_FLIGHT, -1.0))

    def answered(self, route: str, method: str, status: int, taken: Iterable[float], total: float) -> None:
        """A request ends: with a status, after `total` seconds, of which the STAGES took so many each."""
        words, cells = self._words, self._layout.cells  # type: ignore[union-attr]  # it has begun
        cell, served, timed = cells.get((route, method)) or cells[OTHER, known_method(method)]
        cell += _STATUS.get(status, len(STATUSES))
        where, at = bisect_left(BOUNDS, total), _STAGES
        with _lock:
            words[_IN_FLIGHT] -= 1.0
            words[cell] += 1.0
            for seconds in taken:
                if seconds:
                    words[at + bisect_left(BOUNDS, seconds)] += 1.0
                    words[at + _SUM] += seconds
                at += _SPAN
            words[at + where] += 1.0
            words[at + _SUM] += total
            if served:
                words[_SERVED] += 1.0
                if status >= 500:
                    words[_FAILURES] += 1.0
                elif status >= 400:
                    words[_REJECTED] += 1.0
                if timed:
                    words[_LATENCY + where] += 1.0
                    if total > self._slow:
                        words[_SLOW] += 1.0

    def refused(self, codes: Iterable[str]) -> None:
        """A request was refused, for these reasons; each counts once."""
        self._add(*((_CODE.get(code, _CODE[OTHER]), 1.0) for code in set(codes)))

    def without_the_app(self, status: int, *, failed: bool) -> None:
        """A worker answered what the app did not; it failed where that is no fault of the caller's."""
        if self._layout is not None:
            cell = self._layout.cells[OTHER, OTHER][0] + _STATUS.get(status, len(STATUSES))
            self._add((cell, 1.0), (_SERVED, float(failed)), (_FAILURES, float(failed)))

    def committed(self, seconds: float) -> None:
        """The ledger took so long to keep something."""
        self._add((_COMMITS + bisect_left(BOUNDS, seconds), 1.0), (_COMMITS + _SUM, seconds))

    def dropped(self, lines: int) -> None:
        """So many lines of the log were not written."""
        self._add((_DROPPED, float(lines)))

    def _add(self, *counts: tuple[int, float]) -> None:
        if self._layout is None:
            return
        if self._words is None:
            self.open()
        with _lock:
            for word, n in counts:
                self._words[word] += n

    # ---- the file ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take a row, in which nothing is in flight yet; where there is no file, count in memory and say so."""
        layout = self._layout
        if layout is None:
            return
        with _lock:
            if self._words is not None:
                return
            words: Any
            empty: Any = memoryview(bytearray(layout.row)).cast("d")
            try:
                words = self._row_of_file(layout)
            except OSError as error:
                log.warning("what /metrics tells of requests is kept in memory alone: %s", error.strerror)
                words = empty
            if not all(-_SANE < word < _SANE for word in words):  # what a crash of the machine left
                words[:] = empty
            words[_USED], words[_IN_FLIGHT] = 1.0, 0.0
            self._words = words

    def _row_of_file(self, layout: Layout) -> Any:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"metrics.{layout.digest}.bin"
        for old in self._folder.glob("metrics.*.bin"):
            if old != path:
                old.unlink(missing_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_size != SLOTS * layout.row:
                os.ftruncate(file, SLOTS * layout.row)
            slot = next((one for one in range(SLOTS) if _hold(file, one)), None)
            if slot is None:
                raise OSError(errno.EAGAIN, f"more than {SLOTS} processes count")
            # Written, so that it has its place on the disk: on a full one, writing to the map would end the process.
            start = slot * layout.row
            os.pwrite(file, os.pread(file, layout.row, start), start)
            mapped = mmap.mmap(file, layout.row, offset=start)
        except BaseException:
            os.close(file)
            raise
        self._file, self._slot = file, slot
        return memoryview(mapped).cast("d")

    def totals(self) -> Totals:
        """Return all counts; raises OSError where the file cannot be read."""
        if self._layout is None:
            raise RuntimeError("nothing is counted before it is said what there is (lay_out)")
        self.open()
        sums = [0.0] * (self._layout.row // _WORD)
        for words in self._rows(self._layout):
            sums = list(map(add, sums, words))
        return self._layout.totals(sums)

    def _rows(self, layout: Layout) -> Iterator[Sequence[float]]:
        if self._file is None:
            yield self._words.tolist()
            return
        for slot in range(SLOTS):  # read, not mapped: looking at a row that nobody had must not give it a place
            start = slot * layout.row
            if not any(os.pread(self._file, _WORD, start)):
                continue
            words: Any = memoryview(os.pread(self._file, layout.row, start)).cast("d").tolist()
            if words[_IN_FLIGHT] and slot != self._slot and _hold(self._file, slot):
                words[_IN_FLIGHT] = 0.0  # of a worker that was killed and has no successor
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
            yield words

    def close(self) -> None:
        """Leave the row to another process."""
        if self._file is not None:
            os.close(self._file)
        self._forget()


def known_method(method: str) -> str:
    """Return a method as it is counted and told: callers may make up others."""
    return method if method in METHODS else OTHER


def _histogram(words: Sequence[float], start: int) -> Histogram:
    end = start + _SUM
    return Histogram(tuple(int(word) for word in words[start:end]), words[end])


def _hold(file: int, slot: int) -> bool:
    """Take a slot for this process, unless another one has it; the lock is on a byte that stands for it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True
