"""Both nodes get new certificates while traffic runs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from ztunnel.demo.clients import Fetch, get, receive_exactly, receive_line
from ztunnel.demo.places import GREETER, HTTP
from ztunnel.demo.stage import PAGE
from ztunnel.demo.story import MIB, DemoFailed, expect, mib

if TYPE_CHECKING:
    from collections.abc import Callable

    from ztunnel.demo.stage import Stage
    from ztunnel.demo.story import Story

# Leaves live 10 s and begin 2.5 s before they are made: renewal comes 3.75 s later, give or take 0.6 s.
NEXT_RENEWAL = 15.0
# The open transfer takes a piece of the file at this pace, and the last ones only when all is over.
PACE = 0.02
HELD_BACK = 4 * MIB


def rotation_under_load(stage: Stage, story: Story) -> None:
    """New serial numbers on the wire; no request failed, and a transfer that was open all the time is whole."""
    nodes = stage.nodes()
    began = time.monotonic()
    before = {node.title: stage.ways.serial(node.side) for node in nodes}
    with _Load(stage) as load:
        marks = [node.child.mark() for node in nodes]
        for node, mark in zip(nodes, marks, strict=True):
            node.child.wait_for(
                lambda line: "\tcertificate installed\t" in line,
                after=mark,
                what="certificate installed",
                patience=NEXT_RENEWAL,
                meanwhile=lambda: story.progress(f"waiting for half-life: {load.summary()}"),
            )
        after = {node.title: stage.ways.serial(node.side) for node in nodes}
        # Running tunnels go on with what they began with; another client address gets a tunnel of its own,
        # whose handshake shows and accepts the new certificates.
        page = get(stage.ways.open(HTTP, source=stage.places.other_near), "/")
        expect(page == PAGE, f"another page than the server's came: {page[:80]!r}")
        digest = load.finish()
    for title in before:
        story.fact(title, f"serial {before[title][:12]}... -> {after[title][:12]}...")
        expect(before[title] != after[title], f"{title} shows the certificate that it had before")
    seconds = time.monotonic() - began
    story.fact("meanwhile", f"{load.summary()} in {seconds:.1f} s; none failed, none lost a byte")
    expect(digest == stage.payload.sha256, "the transfer across the change: the SHA-256 differ")
    story.fact(
        "", f"one transfer of {mib(stage.payload.size)} across the change: SHA-256 as it should be"
    )
    story.fact("new tunnel", "a page through a handshake with the new certificates")


class _Load:
    """Traffic of three kinds, from `with` to `finish`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._over = threading.Event()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="load")
        self._tasks: list[Future[int]] = []
        self._pages = 0
        self._trips = 0
        self._transfer: Future[str] | None = None

    def __enter__(self) -> Self:
        """Starts it."""
        self._transfer = self._threads.submit(self._transfer_across)
        self._tasks = [
            self._threads.submit(self._repeat, work) for work in (self._page, self._round_trips)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it, if nobody has; every socket has its time-out, so that this ends as well."""
        self._over.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def finish(self) -> str:
        """Ends it; gives the SHA-256 of the long transfer, or raises what went wrong on the way."""
        self._over.set()
        for task in self._tasks:
            try:
                task.result()
            except OSError as error:
                raise DemoFailed(f"lost while certificates changed: {error}") from error
        if self._transfer is None:
            raise AssertionError("finish comes after with")
        return self._transfer.result()

    def summary(self) -> str:
        """How much so far."""
        return f"{self._pages} new connections, {self._trips} round trips"

    def _repeat(self, work: Callable[[], int]) -> int:
        count = 0
        while not self._over.is_set():
            count += work()
        return count

    def _page(self) -> int:
        page = get(self._stage.ways.open(HTTP), "/")
        expect(page == PAGE, f"another page than the server's came: {page[:80]!r}")
        self._pages += 1
        return 1

    def _round_trips(self) -> int:
        """In one connection, until the end."""
        with self._stage.ways.open(GREETER) as connection:
            receive_line(connection)
            while not self._over.is_set():
                message = b"%-1024d" % self._trips
                connection.sendall(message)
                expect(
                    receive_exactly(connection, len(message)) == message,
                    "an echo came back changed",
                )
                self._trips += 1
        return 1

    def _transfer_across(self) -> str:
        size = self._stage.payload.size
        with self._stage.ways.open(HTTP) as connection:
            fetch = Fetch(connection, "/file.bin")
            while fetch.received < size - HELD_BACK and not self._over.wait(PACE):
                fetch.read(min(fetch.received + MIB, size - HELD_BACK))
            self._over.wait()
            return fetch.rest()
