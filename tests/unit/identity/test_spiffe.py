"""SPIFFE IDs: one identity, one spelling. The same table as in `rust/mesh/src/identity/tests.rs`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztunnel.errors import IdentityError
from ztunnel.identity.spiffe import Identity


def test_the_text_form_is_read_and_written() -> None:
    text = "spiffe://cluster.local/ns/default/sa/web.v1_2"
    assert Identity.parse(text) == Identity("cluster.local", "default", "web.v1_2")
    assert str(Identity.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "SPIFFE://td/ns/a/sa/b",
        "https://td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b/",
        "spiffe://td/ns/a/sa",
        "spiffe://td/sa/a/ns/b",
        "spiffe://td/ns/a/sa/b?x",
        "spiffe://td/ns/a/sa/b#x",
        "spiffe://td/ns/a/sa/b%41",
        "spiffe://td/ns//sa/b",
        "spiffe://td/ns/../sa/b",
        "spiffe:///ns/a/sa/b",
        "spiffe://TD/ns/a/sa/b",
        "spiffe://td:80/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b\n",
        "spiffe://td/ns/é/sa/b",
        "spiffe://td/ns/a/sa/" + "b" * 2100,
    ],
)
def test_what_has_another_form_is_refused(text: str) -> None:
    with pytest.raises(IdentityError, match="not a SPIFFE"):
        Identity.parse(text)


@given(st.text(max_size=60))
def test_what_is_read_is_written_the_same_way(text: str) -> None:
    try:
        identity = Identity.parse(f"spiffe://td/ns/{text}/sa/b")
    except IdentityError:
        return
    assert str(identity) == f"spiffe://td/ns/{text}/sa/b"
