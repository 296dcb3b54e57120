"""Which names a certificate may have, and what roots must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from ztunnel.endpoint import Endpoint, RootFile, Roots, RootText, SystemRoots
from ztunnel.errors import EndpointError
from ztunnel.wire.tls import client_context, has_name

CERTIFICATE = {
    "subjectAltName": (
        ("DNS", "istiod.istio-system.svc"),
        ("DNS", "*.example.org"),
        ("IP Address", "10.0.0.1"),
    )
}


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("istiod.istio-system.svc", True),
        ("ISTIOD.istio-system.SVC", True),
        ("istiod.istio-system.svc.", True),
        ("istiod.istio-system", False),
        ("a.example.org", True),
        ("a.b.example.org", False),
        (".example.org", False),
        ("example.org", False),
        ("10.0.0.1", True),
        ("10.0.0.2", False),
    ],
)
def test_a_name_is_covered_whole_or_by_a_star_for_its_first_label(name: str, covered: bool) -> None:
    assert has_name(CERTIFICATE, name) is covered
    assert not has_name({}, name)


def endpoint(roots: Roots) -> Endpoint:
    return Endpoint(host="ca", port=1, roots=roots, cluster_id="c")


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE-----\nAA\n"])
def test_roots_that_are_none_are_an_error(text: str, tmp_path: Path) -> None:
    file = tmp_path / "roots"
    file.write_text(text)
    for roots in (RootFile(file), RootText(text)):
        with pytest.raises(EndpointError, match="roots are not certificates in PEM"):
            client_context(endpoint(roots))


def test_a_file_of_roots_that_is_not_there_is_named() -> None:
    with pytest.raises(EndpointError, match="No such file or directory: /no/roots"):
        client_context(endpoint(RootFile(Path("/no/roots"))))


def test_the_machines_roots_can_be_used() -> None:
    client_context(endpoint(SystemRoots()))
