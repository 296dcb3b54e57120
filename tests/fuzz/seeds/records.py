"""What a peer with the keys in its own hands does: see `script` in fuzz_targets/records.rs for the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import Seeds


def records() -> Seeds:
    """Good conversations, then each thing that ends one."""
    ticket = bytes((0, 0, 0, 9, 1, 2, 3, 4, 1, 7, 0, 2, 8, 9, 0, 0))
    update, request = handshake(24, b"\0"), handshake(24, b"\1")
    talk = {
        "data": data(1) + data(0) + data(244) + data(9, padding=3),
        "data_largest": data(244, padding=2) + data(255),
        "empty": data(0) * 20 + data(1),
        "update": data(1) + key(answer=False) + data(1) + key(answer=True) + data(1),
        "update_untold": data(1) + key(answer=False, told=False) + data(1),
        "update_early": update + data(1),
        "update_in_pieces": handshake(24, b"\0", cut=1),
        "update_bad": handshake(24, b"\2"),
        "update_long": handshake(24, b"\0\0"),
        "update_flood": key(answer=True) * 28 + data(1),
        "request_early": request + data(1),
        "ticket": handshake(4, ticket) + data(1),
        "ticket_in_pieces": handshake(4, ticket, cut=3) + data(1),
        "ticket_bad": handshake(4, ticket[:7]) + data(1),
        "ticket_half": raw(22, b"\4\0\0\x10" + ticket[:4]) + data(1),
        "ticket_and_update": raw(22, b"\x18\0\0\1\0\x18\0\0"),
        "hello": handshake(1, b""),
        "certificate_request": handshake(13, b"\0\0\0"),
        "finished": handshake(20, bytes(32)),
        "close": data(1) + alert(1, 0) + data(1),
        "close_fatal": alert(2, 0),
        "close_in_message": raw(22, b"\x18\0\0") + alert(1, 0),
        "user_canceled": alert(1, 90) * 4 + data(1) + alert(1, 0),
        "user_canceled_flood": alert(1, 90) * 5,
        "user_canceled_then_warning": alert(1, 90) * 4 + alert(1, 31),
        "alert_fatal": data(1) + alert(2, 40) + data(1),
        "alert_warning": alert(1, 100),
        "alert_level": alert(3, 40),
        "alert_short": raw(21, b"\2"),
        "alert_empty": raw(21, b""),
        "change_cipher_spec": raw(20, b"\1"),
        "type_unknown": raw(77, b"?"),
        "type_zero": raw(0, b"?"),
        "blank": blank(0),
        "blank_padded": blank(200),
        "harm_length": data(3) + harm(0) + data(3) + data(3),
        "harm_text": data(3) + harm(1) + data(3) + data(3),
        "harm_tag": harm(7) + data(3),
        "harm_alert": harm(2) + alert(1, 0),
        "clear_alert": shout(bytes((21, 3, 3, 0, 2, 1, 0))) + data(1),
        "clear_ccs": shout(bytes((20, 3, 3, 0, 1, 1))) + data(1),
        "clear_data": shout(bytes((23, 3, 3, 0, 4)) + b"text") + data(1),
        "clear_huge": shout(bytes((23, 3, 3, 0x41, 1))) + data(1),
        "clear_half": shout(bytes((23, 3, 3))),
    }
    yield from talk.items()
    yield "silence", b""


def alert(level: int, code: int) -> bytes:
    """An alert."""
    return bytes((0, level, code))


def blank(length: int) -> bytes:
    """A record of nothing but padding."""
    return bytes((1, length))


def data(size: int, padding: int = 0) -> bytes:
    """Application data, 67 bytes for each of `size`."""
    return bytes((2, size, padding))


def handshake(kind: int, body: bytes, cut: int = 90) -> bytes:
    """A whole message, in records of `cut` bytes."""
    return bytes((4, kind, cut - 1, len(body))) + body


def harm(place: int) -> bytes:
    """The next record is changed."""
    return bytes((6, place, 1))


def raw(kind: int, content: bytes) -> bytes:
    """A record of any type; of at most eight bytes."""
    return bytes((7, kind, len(content))) + content


def shout(text: bytes) -> bytes:
    """Bytes that are not encrypted."""
    return bytes((8, len(text))) + text


def key(*, answer: bool, told: bool = True) -> bytes:
    """The next key, announced or not."""
    return bytes((9, answer | (0 if told else 6)))
