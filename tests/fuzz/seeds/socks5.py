"""What a SOCKS5 client says (BI-S)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import Seeds


def socks5() -> Seeds:
    """Whole conversations and their mistakes."""
    hello = b"\x05\x01\x00"
    port = b"\x00\x50"
    requests = {
        "ipv4": b"\x05\x01\x00\x01\x0a\x00\x00\x01" + port,
        "ipv6": b"\x05\x01\x00\x04" + bytes(15) + b"\x01" + port,
        "ipv6_mapped": b"\x05\x01\x00\x04" + bytes(10) + b"\xff\xff\x7f\x00\x00\x01" + port,
        "name": named(b"web.default.svc.cluster.local"),
        "name_dot": named(b"Web.Default."),
        "name_empty": named(b""),
        "name_is_ip": named(b"10.0.0.1"),
        "name_is_ip6": named(b"::1"),
        "name_is_ip_dot": named(b"10.0.0.1."),
        "name_longest": named(b"a" * 255),
        "name_not_utf8": named(b"\xff\xfe"),
        "name_nul": named(b"we\0b"),
        "bind": b"\x05\x02\x00\x01\x0a\x00\x00\x01" + port,
        "udp": b"\x05\x03\x00\x01\x0a\x00\x00\x01" + port,
        "port_zero": b"\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x00",
        "reserved_set": b"\x05\x01\xff\x01\x0a\x00\x00\x01" + port,
        "address_type_0": b"\x05\x01\x00\x00",
        "address_type_2": b"\x05\x01\x00\x02abcd" + port,
        "address_type_255": b"\x05\x01\x00\xffabcd" + port,
        "version_4": b"\x04\x01\x00\x01\x0a\x00\x00\x01" + port,
        "truncated": b"\x05\x01\x00\x03\x10abc",
    }
    for name, request in requests.items():
        yield name, hello + request
    yield "data_behind", hello + requests["ipv4"] + b"GET / HTTP/1.1\r\n\r\n"
    yield "greeting_only", hello
    yield "greeting_http", b"GET / HTTP/1.1\r\n\r\n"
    yield "greeting_socks4", b"\x04\x01\x00\x50\x0a\x00\x00\x01\x00"
    yield "methods_none", b"\x05\x00"
    yield "methods_255", b"\x05\xff" + bytes(range(255)) + requests["ipv4"]
    yield "methods_password_only", b"\x05\x01\x02"
    yield "silence", b""


def named(name: bytes) -> bytes:
    """CONNECT to a name."""
    return b"\x05\x01\x00\x03" + bytes([len(name)]) + name + b"\x00\x50"
