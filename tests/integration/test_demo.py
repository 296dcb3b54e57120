"""`ztunnel demo`, as a person sees it: what it says, how it ends, what it leaves behind.

Runs the program with a small file. Its pieces that could fool us (the tap, the reading of serial numbers) are
tested at the end. Addresses: 127.90.0.0/16, which are the demo's own.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ztunnel.demo import namespaces, tap
from ztunnel.demo.clients import Ending, get, read_to_end, serial_of
from ztunnel.demo.steps import TITLES
from ztunnel.demo.story import DemoFailed, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

# One run takes some five seconds with a release build; others may be using this machine as well.
DEADLINE = 90.0
pytestmark = pytest.mark.timeout(DEADLINE + 10)


class Demo:
    """A running `ztunnel demo`, in a session of its own as in a terminal of its own."""

    def __init__(self, folder: Path, *arguments: str, path: str = "") -> None:
        self.folder = folder
        self.said = ""
        search = os.pathsep.join(filter(None, [path, os.environ["PATH"]]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ztunnel", "demo", "--size", "48", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # What it leaves in its temporary folder, and whoever still has this folder in its
            # environment, was left behind by it.
            env={**os.environ, "TMPDIR": str(folder), "PATH": search},
            start_new_session=True,
        )
        self._deadline = time.monotonic() + DEADLINE

    def until(self, text: str) -> re.Match[str]:
        """Reads on until it says so."""
        while not (found := re.search(text, self.said)):
            assert self._read(), f"it ended without saying {text!r}:\n{self.said}"
        return found

    def interrupt(self) -> None:
        """Ctrl-C: to its whole process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def end(self) -> int:
        """Reads to the end; gives the exit code."""
        while self._read():
            pass
        return self._process.wait(max(0.1, self._deadline - time.monotonic()))

    def close(self) -> None:
        """If a test has failed."""
        if self._process.poll() is None:
            self.interrupt()
            self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def assert_nothing_is_left(self) -> None:
        """No file, no process, no port."""
        assert list(self.folder.iterdir()) == []
        assert _within(30, lambda: not _processes_of(self.folder)), _processes_of(self.folder)
        net = re.search(r"\b(127\.90\.\d+)\.1\b", self.said)
        if net:
            assert _listeners(net[1]) == []

    def _read(self) -> bool:
        assert self._process.stdout is not None
        left = max(0.0, self._deadline - time.monotonic())
        readable, _, _ = select.select([self._process.stdout], [], [], left)
        assert readable, f"nothing more within {DEADLINE:g} s:\n{self.said}"
        data = os.read(self._process.stdout.fileno(), 65536)
        self.said += data.decode()
        return bool(data)


@contextmanager
def demo(folder: Path, *arguments: str, path: str = "") -> Iterator[Demo]:
    running = Demo(folder, *arguments, path=path)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    own = tmp_path / "temporary"
    own.mkdir()
    return own


def test_every_step_is_shown_and_holds_and_nothing_is_left(folder: Path) -> None:
    with demo(folder) as running:
        code = running.end()
    assert code == 0, running.said
    for number, title in enumerate(TITLES, 1):
        assert f"\n{number} {title}\n" in running.said
    assert "all 8 steps held" in running.said
    assert running.said.count("sa/client  spiffe://cluster.local/ns/demo/sa/client\n") == 1
    assert "marker seen: 0 times" in running.said
    assert "marker seen: 144 times" in running.said
    assert running.said.count("ECONNRESET") >= 4
    assert "\x1b" not in running.said, "plain text where there is no terminal"
    assert running.said.isascii()
    running.assert_nothing_is_left()


def test_a_file_that_arrives_changed_fails_its_step(folder: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    real = next(p for d in os.environ["PATH"].split(os.pathsep) if (p := Path(d, "curl")).exists())
    fake = tools / "curl"
    fake.write_text(f'#!/bin/sh\n"{real}" "$@" | sed "s/of the demo/in the demo/"\n')
    fake.chmod(0o755)
    with demo(folder, path=str(tools)) as running:
        assert running.end() == 1
    assert f"FAILED: step 1 ({TITLES[0]}): the two SHA-256 differ" in running.said
    assert "last lines of node-a:" in running.said
    assert "last lines of node-b:" in running.said
    assert f"2 {TITLES[1]}" not in running.said
    running.assert_nothing_is_left()


def test_a_node_that_dies_fails_the_step_that_needs_it(folder: Path) -> None:
    with demo(folder) as running:
        pid = running.until(r"node B .*\n +pid (\d+)")[1]
        os.kill(int(pid), signal.SIGKILL)
        assert running.end() == 1
    assert re.search(r"FAILED: step \d \(.+\): .+", running.said)
    running.assert_nothing_is_left()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("two nodes, one tunnel", id="while it starts"),
        pytest.param(f"1 {TITLES[0]}", id="in a transfer"),
        pytest.param(f"5 {TITLES[4]}", id="while a policy comes"),
        pytest.param(f"6 {TITLES[5]}", id="under load"),
        pytest.param(f"8 {TITLES[7]}", id="while the rival starts"),
    ],
)
def test_ctrl_c_ends_it_clean(folder: Path, moment: str) -> None:
    with demo(folder) as running:
        running.until(re.escape(moment))
        running.interrupt()
        assert running.end() == 130, running.said
    assert "ended by SIGINT; nothing was left behind" in running.said
    assert "Traceback" not in running.said
    running.assert_nothing_is_left()


def test_kept_running_it_serves_until_ctrl_c(folder: Path) -> None:
    with demo(folder, "--keep") as running:
        way_in = running.until(r"local port +curl http://(\S+?):(\d+)/")
        running.until("it runs until Ctrl-C")
        page = get(socket.create_connection((way_in[1], int(way_in[2])), 10), "/")
        assert b"A page from behind node B" in page
        running.interrupt()
        assert running.end() == 0, running.said
    running.assert_nothing_is_left()


@pytest.mark.root
def test_across_namespaces_unaware_clients_are_captured(folder: Path) -> None:
    with demo(folder, "--root") as running:
        code = running.end()
    assert code == 0, running.said
    assert "curl http://10.90.9.9/file.bin" in running.said
    assert "220 hello 10.90.0.1" in running.said, "the server sees the client's address"
    assert "not a byte to or from any other port than 15008" in running.said
    running.assert_nothing_is_left()
    assert not list(Path("/run/netns").glob("ztunnel-demo-*"))


@pytest.mark.root
def test_ctrl_c_takes_the_namespaces_away(folder: Path) -> None:
    with demo(folder, "--root") as running:
        running.until(f"1 {TITLES[0]}")
        running.interrupt()
        assert running.end() == 130
    running.assert_nothing_is_left()
    assert not list(Path("/run/netns").glob("ztunnel-demo-*"))


def test_namespaces_without_root_are_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DemoFailed, match="run it as root"), namespaces.namespaces():
        pass


def test_a_terminal_gets_colour_and_a_moving_line_unless_it_asks_not_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    story = Story(out)
    story.progress("half")
    story.fact("name", "value")
    assert "\r\x1b[K  half\r\x1b[K  \x1b[36mname" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Story(plain).fact("name", "value")
    assert plain.getvalue() == "  name         value\n"


@pytest.mark.parametrize("chunk", [1, 3, 7, 8, 100])
def test_the_tap_finds_a_text_however_it_is_cut(chunk: int) -> None:
    scanner = tap.Scanner(b"a secret")
    stream = b"a secret" + b"a secre a secret" * 3 + b"a secre"
    for at in range(0, len(stream), chunk):
        piece = stream[at : at + chunk]
        scanner.room[: len(piece)] = piece
        assert scanner.take(len(piece)) == piece
        scanner.sent(len(piece))
    assert (scanner.count, scanner.found, scanner.first) == (len(stream), 4, stream[:8])


def test_the_tap_forgets_what_was_in_the_buffer_before() -> None:
    scanner = tap.Scanner(b"ab")
    for piece in (b"xab", b"y", b"b"):
        scanner.room[: len(piece)] = piece
        scanner.take(len(piece))
        scanner.sent(len(piece))
    assert scanner.found == 1


@pytest.mark.parametrize("kind", ["FIN", "RST"])
def test_the_tap_passes_an_end_on_as_it_was(kind: str) -> None:
    host = "127.90.255.1"
    with socket.create_server((host, 0)) as upstream, socket.create_server((host, 0)) as spare:
        listen = spare.getsockname()[:2]
        spare.close()
        relay = tap.Relay(listen, upstream.getsockname()[:2], None, b"marker")
        threading.Thread(target=relay.serve, daemon=True).start()
        with socket.create_connection(listen, 10) as client:
            server, _ = upstream.accept()
            server.sendall(b"before the end")
            assert client.recv(14, socket.MSG_WAITALL) == b"before the end"
            if kind == "RST":
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.close()
            assert read_to_end(client) == Ending(kind=kind, received=0)


def test_a_serial_number_is_read_as_a_certificate_has_it(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from bench.pure_python.certs import Authority

    chain = Authority().issue(tmp_path / "leaf", "spiffe://cluster.local/ns/a/sa/b").chain
    certificate = x509.load_pem_x509_certificate(chain.read_bytes())
    assert serial_of(certificate.public_bytes(Encoding.DER)) == f"{certificate.serial_number:x}"


def _processes_of(folder: Path) -> list[str]:
    """Command lines of whoever has this temporary folder in its environment."""
    wanted, found = f"TMPDIR={folder}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [command for command in found if command]


def _listeners(net: str) -> list[str]:
    """Listening sockets on `127.90.N.…`."""
    wanted = bytes(reversed([int(part) for part in net.split(".")])).hex().upper()
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return [row[1] for row in rows if row[3] == "0A" and row[1][2:8] == wanted]


def _within(seconds: float, condition: object) -> bool:
    """Whether the condition comes true in time; the system gives no event for somebody else's end."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    never = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        never.wait(0.02)
    return True
