"""What comes over a connection, with or without the client's preface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
)

from .blocks import BAGGAGE, CONNECT, HBONE, Fields, bad_blocks, block
from .wire import headers, opened_window, raw, wire

if TYPE_CHECKING:
    from . import Seeds

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame() -> Seeds:
    """Whole conversations first, then SETTINGS and one odd thing each."""
    yield from conversations()
    start = wire(SettingsFrame(0))
    for name, content in [*frames(), *requests(), *answers(), *broken_blocks()]:
        yield name, start + content
    yield "preface_bad", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r" + start
    yield "preface_half", PREFACE[:12]
    yield "preface_http1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "settings_missing", wire(PingFrame(0, opaque_data=b"12345678"))


def conversations() -> Seeds:
    """Either side of a tunnel as hyper-h2 speaks it."""
    client = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
    server = H2Connection(H2Configuration(client_side=False, validate_outbound_headers=False))
    up, down = b"", b""

    def exchange() -> None:
        nonlocal up, down
        for _ in range(2):
            sent = client.data_to_send()
            server.receive_data(sent)
            up += sent
            sent = server.data_to_send()
            client.receive_data(sent)
            down += sent

    client.initiate_connection()
    server.initiate_connection()
    client.send_headers(1, HBONE)
    client.send_headers(3, HBONE, end_stream=True)
    exchange()
    server.send_headers(1, [(":status", "200"), ("baggage", BAGGAGE)])
    server.send_headers(3, [(":status", "503")], end_stream=True)
    server.send_data(1, b"hello" * 20)
    exchange()
    client.send_data(1, b"x" * 300, pad_length=10)
    client.ping(b"12345678")
    client.send_data(1, b"y", end_stream=True)
    exchange()
    server.send_data(1, b"bye", end_stream=True)
    exchange()
    server.close_connection()
    exchange()
    yield "tunnel_up", up
    yield "tunnel_down", down


def frames() -> Seeds:
    """Each kind of frame, as it should be and as it must not be (BI-F)."""
    opened = headers(CONNECT)
    yield "continuation", headers(HBONE, split=40)
    yield "continuation_alone", wire(ContinuationFrame(1, data=b"\x82", flags=["END_HEADERS"]))
    yield "continuation_of_another", headers(HBONE, split=40, continued_on=3)
    yield "continuation_interrupted", headers(CONNECT, ends=False) + wire(PingFrame(0))
    yield "continuations_empty", headers(CONNECT, ends=False) + wire(ContinuationFrame(1)) * 200
    yield "data", opened + wire(DataFrame(1, data=b"x" * 100))
    yield "data_before_request", wire(DataFrame(1, data=b"x"))
    yield "data_empty", opened + wire(DataFrame(1)) * 150
    yield "data_end_twice", opened + 2 * wire(DataFrame(1, data=b"x", flags=["END_STREAM"]))
    yield "data_many_small", opened + b"".join(wire(DataFrame(1, data=b"x")) for _ in range(300))
    yield "data_on_zero", raw(0, 0, 0, b"x")
    yield "data_over_window", opened + 2 * wire(DataFrame(1, data=b"x" * 600))
    yield "data_padded", opened + wire(DataFrame(1, data=b"x", pad_length=255, flags=["PADDED"]))
    yield "data_padding_too_long", opened + raw(0, 8, 1, b"\x05abcd")
    yield "data_padding_only", opened + raw(0, 8, 1, b"\x03\0\0\0")
    yield "data_truncated", opened + wire(DataFrame(1, data=b"x" * 100))[:50]
    yield "go_away", wire(GoAwayFrame(0, last_stream_id=1, error_code=2, additional_data=b"why"))
    yield "go_away_on_stream", raw(7, 0, 1, bytes(8))
    yield "go_away_short", raw(7, 0, 0, bytes(7))
    yield "length_too_large", raw(6, 0, 0, b"", length=16_385)
    yield "ping", wire(PingFrame(0, opaque_data=b"12345678"))
    yield "ping_ack", wire(PingFrame(0, opaque_data=b"12345678", flags=["ACK"]))
    yield "ping_flood", wire(PingFrame(0)) * 200
    yield "ping_on_stream", raw(6, 0, 1, bytes(8))
    yield "ping_short", raw(6, 0, 0, bytes(7))
    yield "priority", wire(PriorityFrame(1, depends_on=3))
    yield "priority_of_itself", raw(2, 0, 1, b"\0\0\0\x01\x10")
    yield "priority_short", raw(2, 0, 1, bytes(4))
    yield "push_promise", wire(PushPromiseFrame(1, promised_stream_id=2, flags=["END_HEADERS"]))
    yield "rst_stream", opened + wire(RstStreamFrame(1, error_code=8))
    yield "rst_stream_idle", wire(RstStreamFrame(7, error_code=8))
    yield "rst_stream_short", opened + raw(3, 0, 1, bytes(3))
    yield (
        "rst_stream_rapid",
        b"".join(headers(CONNECT, n) + wire(RstStreamFrame(n)) for n in range(1, 99, 2)),
    )
    yield "settings_ack", wire(SettingsFrame(0, flags=["ACK"]))
    yield "settings_ack_with_body", raw(4, 1, 0, bytes(6))
    for key, values in {
        1: [0, 65536],
        2: [2],
        3: [0, 1],
        4: [0, 1 << 31],
        5: [16383, 1 << 24],
        6: [0],
    }.items():
        for value in values:
            yield f"settings_{key}_{value}", wire(SettingsFrame(0, settings={key: value}))
    yield "settings_flood", wire(SettingsFrame(0)) * 150
    yield "settings_on_stream", raw(4, 0, 1, b"")
    yield "settings_short", raw(4, 0, 0, bytes(5))
    yield "settings_unknown", wire(SettingsFrame(0, settings={0x8: 1, 0xFFFF: 7}))
    yield (
        "settings_window_shrinks",
        opened + wire(SettingsFrame(0, settings={4: 10})) + opened_window(1),
    )
    yield "unknown_frame", raw(0xFE, 0xFF, 1, b"whatever")
    yield "unknown_known", wire(AltSvcFrame(0, origin=b"x", field=b"y"))
    yield "window_update", opened + opened_window(0) + opened_window(1)
    yield "window_update_of_zero", opened + raw(8, 0, 1, bytes(4))
    yield "window_update_overflow", opened + raw(8, 0, 1, b"\x7f\xff\xff\xff") * 2
    yield "window_update_overflow_all", raw(8, 0, 0, b"\x7f\xff\xff\xff") * 2
    yield "window_update_short", raw(8, 0, 0, bytes(3))


def requests() -> Seeds:
    """Requests as a server may get them (BI-H)."""
    lines: dict[str, Fields] = {
        "authority_empty": [CONNECT[0], (":authority", "")],
        "authority_missing": [CONNECT[0]],
        "authority_twice": [*CONNECT, CONNECT[1]],
        "connection_specific": [*CONNECT, ("connection", "keep-alive"), ("te", "trailers")],
        "content_length": [*CONNECT, ("content-length", "3")],
        "get": [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "x")],
        "host_is_other": [*CONNECT, ("host", "other:80")],
        "list_too_large": [*CONNECT, *[("a", "b" * 60)] * 30],
        "many_fields": [*CONNECT, *[("a", "")] * 120],
        "method_lower_case": [(":method", "connect"), CONNECT[1]],
        "method_missing": [CONNECT[1]],
        "name_upper_case": [*CONNECT, ("Baggage", "")],
        "protocol": [*CONNECT, (":protocol", "websocket")],
        "pseudo_late": [CONNECT[0], ("baggage", ""), CONNECT[1]],
        "pseudo_unknown": [*CONNECT, (":unknown", "x")],
        "scheme_and_path": [*CONNECT, (":scheme", "https"), (":path", "/")],
        "value_with_newline": [*CONNECT, ("baggage", "a\r\nb: c")],
        "x_forwarded_network": [*HBONE, ("x-forwarded-network", "net" * 50)],
    }
    for name, fields in lines.items():
        yield f"request_{name}", headers(fields)
    yield "request_even_stream", headers(CONNECT, 2)
    yield "request_ends", headers(HBONE, end=True)
    yield "request_ends_with_trailers", headers(CONNECT) + headers([("a", "b")], end=True)
    yield "request_in_the_middle", headers(CONNECT) + headers(CONNECT)
    yield "request_last_stream", headers(CONNECT, 0x7FFFFFFF) + headers(CONNECT, 1)
    yield (
        "request_padded",
        wire(
            HeadersFrame(
                1, block(CONNECT), pad_length=20, flags=["END_HEADERS", "PADDED", "PRIORITY"]
            )
        ),
    )
    yield "request_priority_of_itself", raw(1, 0x24, 1, b"\0\0\0\x01\x10" + block(CONNECT))
    yield "request_streams_201", b"".join(headers(CONNECT, n) for n in range(1, 403, 2))[:4000]
    yield "request_trailers_without_end", headers(CONNECT) + headers([("a", "b")])
    yield (
        "request_data_after_trailers",
        (headers(CONNECT) + headers([("a", "b")], end=True) + wire(DataFrame(1, data=b"x"))),
    )


def answers() -> Seeds:
    """Responses as a client with streams 1 and 3 may get them (BI-H)."""
    for status in ["100", "101", "200", "204", "301", "407", "503", "20", "2000", "abc"]:
        yield f"answer_{status}", headers([(":status", status)])
        yield f"answer_{status}_ends", headers([(":status", status)], end=True)
    interim, ok = headers([(":status", "103")]), headers([(":status", "200")])
    yield "answer_after_interims", interim * 3 + ok + wire(DataFrame(1, data=b"x" * 50))
    yield "answer_interim_flood", interim * 200
    yield "answer_twice", ok + ok
    yield "answer_to_nobody", headers([(":status", "200")], 9)
    yield "answer_trailers", ok + wire(DataFrame(1, data=b"x")) + headers([("a", "b")], end=True)
    yield "answer_without_status", headers([("a", "b")])
    yield "answer_data_first", wire(DataFrame(1, data=b"x" * 900)) + ok
    yield "answer_go_away_between", ok + wire(GoAwayFrame(0, last_stream_id=1))


def broken_blocks() -> Seeds:
    """Header blocks that end the connection."""
    for name, content in bad_blocks():
        yield f"block_{name}", wire(HeadersFrame(1, content, flags=["END_HEADERS"]))
