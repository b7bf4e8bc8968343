"""Row 8: clients that send nothing, half a head or half a body, many at once, while others are answered as ever."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from pathlib import Path

from tests.proxy import Proxied

from reviewapp.contract import Contract
from reviewapp.samples import example_record

from .figures import Figure, all_of, below, none
from .instances import proxied

HEAD = "POST /api/v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
HALVES = {
    "idle": b"",
    "half-head": f"{HEAD}X-A: ".encode(),
    "half-body": f"{HEAD}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{".encode(),
}
GONE_SECONDS = 10.0  # after which a client that sends nothing more of its half has been hung up on
PAUSE = 0.02  # between two probes


def run(folder: Path, *, full: bool) -> list[Figure]:
    clients, seconds, most = (400, 20.0, 0.1) if full else (60, 0.8, 2.0)
    figures: list[Figure] = []
    with proxied(folder / "instance") as running:
        contract = Contract.from_json(running.call("GET", "/api/v1/contract")[1])
        probe = json.dumps({"input": example_record(contract)}).encode()
        signed = {"Authorization": f"Bearer {running.reviewer}"}
        for kind, half in HALVES.items():
            failed, times, refused = _probed(running, probe, signed, [half] * clients, seconds)
            figures += [
                none(f"probes that failed beside {clients} {kind} clients", failed),
                none(f"{kind} clients that could not connect", refused),
                below(f"p99 of {len(times):,} probes beside them", _p99(times) * 1000, most * 1000, "ms", 1),
            ]
        if full:
            for kind in ("half-head", "half-body"):
                gone = _hung_up_on(running, HALVES[kind], clients)
                figures.append(all_of(f"{kind} clients gone within {GONE_SECONDS:g} s", gone, clients))
    return figures


def _probed(
    running: Proxied, probe: bytes, signed: dict[str, str], halves: list[bytes], seconds: float
) -> tuple[int, list[float], int]:
    """Send whole requests beside clients that send a byte now and then; those that were hung up on come back."""
    ready, over = threading.Event(), threading.Event()
    refused: list[OSError] = []

    def one(half: bytes) -> socket.socket | None:
        try:
            client = socket.create_connection(("127.0.0.1", running.port), 10)
            client.sendall(half)
        except OSError as error:
            refused.append(error)
            return None
        client.setblocking(False)
        return client

    def linger() -> None:
        clients = [one(half) for half in halves]
        ready.set()
        while not over.wait(1.0):
            for number, client in enumerate(clients):
                if client is not None and _is_over(client, b"a" if halves[number] else b""):
                    client.close()
                    clients[number] = one(halves[number])
        for client in clients:
            if client is not None:
                client.close()

    thread = threading.Thread(target=linger)
    thread.start()
    ready.wait()
    failed, times, ends = 0, [], time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            status, _, _ = running.call("POST", "/api/v1/predictions?dry_run=true", probe, signed, fresh=True)
            failed -= status == 200
        failed += 1
        times.append(time.monotonic() - began)
        time.sleep(PAUSE)
    over.set()
    thread.join()
    return failed, times, len(refused)


def _is_over(client: socket.socket, more: bytes) -> bool:
    """Send more of a half; whether the client was hung up on."""
    try:
        client.send(more)
        return client.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _hung_up_on(running: Proxied, half: bytes, count: int) -> int:
    """Return how many of the clients that send a half and nothing more are hung up on in time."""
    gone = 0
    with selectors.DefaultSelector() as waiting:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", running.port), 10)
            client.sendall(half)
            waiting.register(client, selectors.EVENT_READ)
        ends = time.monotonic() + GONE_SECONDS
        while (left := ends - time.monotonic()) > 0 and waiting.get_map():
            for key, _ in waiting.select(left):
                client = key.fileobj  # type: ignore[assignment]  # only sockets are registered
                with contextlib.suppress(ConnectionResetError):
                    if client.recv(65536):
                        continue  # an answer, and then the end
                waiting.unregister(client)
                client.close()
                gone += 1
        for key in list(waiting.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    return gone


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]
