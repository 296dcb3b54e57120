"""Bundles of roots, as files have them (spec/reliability.md BI-C)."""

from __future__ import annotations

import pytest

from ztunnel.errors import CaError
from ztunnel.identity.roots import certificates_in, on_lines_of_their_own

ONE = b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
TWO = ONE.replace(b"QUJD", b"REVG")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (ONE, [ONE]),
        (ONE + TWO, [ONE, TWO]),
        (b"a remark\n" + ONE.replace(b"\n", b"\r\n") + b"junk" + TWO.rstrip(), [ONE, TWO]),
        (ONE + TWO + ONE, [ONE, TWO]),
        (b"-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n" + ONE, [ONE]),
        (b"-----BEGIN CERTIFICATE-----\nQUJD\n" + TWO, [TWO]),
    ],
)
def test_each_certificate_is_found_once_and_in_order(data: bytes, found: list[bytes]) -> None:
    assert certificates_in(data) == found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no certificate in the bundle"),
        (b"\x30\x82", "no certificate in the bundle"),
        (b"x" * (4 * 1024 * 1024 + 1), "larger than 4 MiB"),
        (
            b"".join(ONE.replace(b"QUJD", b"QUJD%d" % n) for n in range(501)),
            "more than 500 certificates",
        ),
    ],
)
def test_a_bundle_without_use_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CaError, match=message):
        certificates_in(data)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (ONE + TWO, ONE + TWO),
        (ONE.rstrip() + TWO, ONE + TWO),
        (b"x" + ONE + b"y" + TWO.rstrip() + b"z", b"x\n" + ONE + b"y\n" + TWO + b"z"),
        (ONE.replace(b"\n", b"\r\n"), ONE.replace(b"\n", b"\r\n")),
        (b"", b""),
    ],
)
def test_each_boundary_gets_a_line_of_its_own(data: bytes, lines: bytes) -> None:
    assert on_lines_of_their_own(data) == lines
