"""SOCKS5 clients that make mistakes, lie or fall silent (spec/reliability.md BI-S).

Each gets the reply that RFC 1928 has for its mistake, then a RST; the log names the mistake; the silent ones are held for
their deadline. The negotiation itself, byte by byte, is tested in rust/proxy.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Application, End, Heard, SocksReply, through_socks5
from tests.support.lab import PORT, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

NETWORK = "127.2"
HELD = 1.0
# What slow cores may add to it; a node that forgets somebody holds him for ever.
SLACK = 15.0
# A client that is held up by the silent ones waits for their deadline, again and again.
UNDISTURBED = 8.0

HELLO, WELCOME = b"\x05\x01\x00", b"\x05\x00"
NO_METHOD = b"\x05\xff"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    deadlines = {"socks": f"{HELD}s"}
    with Lab(tmp_path_factory.mktemp("socks"), network=NETWORK, deadlines=deadlines) as lab:
        yield lab


def reply(code: int) -> bytes:
    return bytes([5, code, 0, 1]) + bytes(6)


def by_name(name: bytes, port: int = 80) -> bytes:
    return b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big")


MISTAKES = {
    "SOCKS4": (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"", "not SOCKS5: version 4"),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", b"", "not SOCKS5: version 71"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", b"", "not SOCKS5: version 22"),
    "no methods": (b"\x05\x00", NO_METHOD, "no usable SOCKS5 authentication method"),
    "password only": (b"\x05\x01\x02", NO_METHOD, "no usable SOCKS5 authentication method"),
    "254 methods, not ours": (
        b"\x05\xfe" + bytes(range(1, 255)), NO_METHOD, "no usable SOCKS5 authentication method",
    ),
    "BIND": (HELLO + b"\x05\x02\x00\x01" + bytes(6), WELCOME + reply(7), "unsupported SOCKS5 command: 2"),
    "UDP": (HELLO + b"\x05\x03\x00\x01" + bytes(6), WELCOME + reply(7), "unsupported SOCKS5 command: 3"),
    "address type 0": (HELLO + b"\x05\x01\x00\x00", WELCOME + reply(8), "unsupported SOCKS5 address type: 0"),
    "address type 255": (
        HELLO + b"\x05\x01\x00\xff", WELCOME + reply(8), "unsupported SOCKS5 address type: 255",
    ),
    "a name without letters": (HELLO + by_name(b""), WELCOME + reply(1), "malformed host name"),
    "a name that is no UTF-8": (HELLO + by_name(b"\xff\xfe"), WELCOME + reply(1), "malformed host name"),
    "a name with NUL": (HELLO + by_name(b"web\0.example"), WELCOME + reply(1), "malformed host name"),
    "a name with a line end": (HELLO + by_name(b"web\n.example"), WELCOME + reply(1), "malformed host name"),
    "port 0": (HELLO + by_name(b"web", 0), WELCOME + reply(1), "SOCKS5 request for port 0"),
    "another version in the request": (HELLO + b"\x04", WELCOME + reply(1), "unsupported version in SOCKS5"),
    "a name of 255 letters": (HELLO + by_name(b"n" * 255), WELCOME + reply(1), "malformed host name"),
    "the longest name, which nobody has": (HELLO + by_name(b"n.n" * 84), WELCOME + reply(4), "n.n" * 84),
}  # fmt: skip


@pytest.mark.parametrize(("words", "answer", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_its_reply_and_a_reset(
    lab: Lab, words: bytes, answer: bytes, said: str
) -> None:
    lines = len(lab.node.access)
    with knock(lab) as client:
        name = own_name(client)
        assert client.says(words).hears() == Heard(answer, "ECONNRESET")
    line = lab.node.access.wait_for("connection failed", after=lines, src_addr=name)
    assert said in line["error"]
    assert line["direction"] == "outbound"
    assert_good(lab)


def test_a_request_in_single_bytes_with_words_behind_it_passes(lab: Lab) -> None:
    with Application.listen(lab.address) as application, knock(lab) as client:
        address = socket.inet_aton(lab.address) + application.address[1].to_bytes(2, "big")
        for byte in HELLO + b"\x05\x01\x77\x01" + address + b"early words":  # RSV is not looked at
            client.says(bytes([byte]))
        server = application.accepts()
        assert client.takes(12) == WELCOME + reply(0)
        assert server.takes(11) == b"early words"


def test_a_request_in_one_piece_with_words_behind_it_passes(lab: Lab) -> None:
    with Application.listen(lab.address) as application, knock(lab) as client:
        address = socket.inet_aton(lab.address) + application.address[1].to_bytes(2, "big")
        client.says(HELLO + b"\x05\x01\x00\x01" + address + b"early words")
        server = application.accepts()
        assert client.takes(12) == WELCOME + reply(0)
        assert server.takes(11) == b"early words"


def test_an_address_in_the_place_of_a_name_is_an_address(lab: Lab) -> None:
    with Application.listen(lab.address) as application, knock(lab) as client:
        client.says(HELLO + by_name(lab.address.encode(), application.address[1]))
        server = application.accepts()
        assert client.takes(12) == WELCOME + reply(0)
        server.says(b"hello")
        assert client.takes(5) == b"hello"


@pytest.mark.parametrize("listener", ["socks5", "forwards[0]", "metrics", "readiness", "admin"])
def test_a_way_back_into_the_node_is_not_allowed(lab: Lab, listener: str) -> None:
    lines = len(lab.node.access)
    with pytest.raises(SocksReply) as refused:
        through_socks5(lab.node.socks5, *lab.node.bound[listener])
    with refused.value.connection as connection:
        assert refused.value.code == 2
        assert End(connection).hears() == Heard(b"", "ECONNRESET")
    line = lab.node.access.wait_for("connection failed", after=lines)
    assert line["error"] == "attempted recursive call to ourselves"


SILENCES = {
    "from the start": b"",
    "within the greeting": b"\x05\x02\x00",
    "after the greeting": HELLO,
    "within the request": HELLO + b"\x05\x01\x00\x03\x20web",
}


@pytest.mark.parametrize("words", SILENCES.values(), ids=SILENCES)
def test_who_falls_silent_is_held_for_the_deadline_and_no_longer(lab: Lab, words: bytes) -> None:
    lines, began = len(lab.node.access), time.monotonic()
    with knock(lab) as client:
        name = own_name(client)
        client.says(words)
        heard = client.hears()
    held = time.monotonic() - began
    assert heard.end == "ECONNRESET"
    assert HELD * 0.9 < held < HELD + SLACK, f"held for {held:.2f} s"
    line = lab.node.access.wait_for("connection failed", after=lines, src_addr=name)
    assert line["error"] == "SOCKS5 negotiation took longer than 1s"


def test_three_hundred_silent_ones_disturb_nobody_and_leave_nothing_behind(lab: Lab) -> None:
    assert_good(lab)
    memory = lab.node.resident()
    before = lab.node.metrics().total(
        "ztunnel_refusals_total", side="outbound", reason="socks_timeout"
    )
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(knock(lab)) for _ in range(300)]
        slowest = max(assert_good(lab) for _ in range(20))
        grown = lab.node.resident() - memory
        ends = {client.hears().end for client in crowd}
    took = time.monotonic() - began
    assert ends == {"ECONNRESET"}
    assert took < 2 * HELD + 20 * slowest + SLACK, f"they were held for {took:.2f} s"
    assert slowest < UNDISTURBED, f"a good client waited {slowest:.2f} s"
    assert grown < 8 << 20, f"{grown >> 10} KiB"
    after = lab.node.metrics().total(
        "ztunnel_refusals_total", side="outbound", reason="socks_timeout"
    )
    assert after == before + 300


@contextlib.contextmanager
def knock(lab: Lab) -> Iterator[End]:
    with socket.create_connection(lab.node.socks5, 10) as connection:
        yield End(connection)


def own_name(client: End) -> str:
    host, port = client.socket.getsockname()
    return f"{host}:{port}"


def assert_good(lab: Lab) -> float:
    """A well-behaved client is served; gives the seconds it took."""
    began = time.monotonic()
    with Application.listen(lab.address, PORT) as application:
        client, server = application.pair(
            lambda: through_socks5(lab.node.socks5, lab.address, PORT)
        )
        client.says(b"hello")
        assert server.takes(5) == b"hello"
    return time.monotonic() - began
