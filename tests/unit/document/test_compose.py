"""Bytes that are no document, and documents that are too much (spec/reliability.md BI-Y)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztunnel.document.compose import MAX_BYTES, Unreadable, compose
from ztunnel.document.tree import Listing, Scalar, Table


def problem(data: bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        compose(data)
    return str(caught.value.problem)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "1:1: empty; a mesh file has"),
        (b" \n\n", "1:1: nothing but blanks in it; a mesh file has"),
        (b"# a remark\n", "1:1: nothing in it; a mesh file has"),
        (b"\xef\xbb\xbf", "1:1: nothing but blanks in it"),
        (b"a: [1\n", "2:1: not YAML: did not find expected ',' or ']' (while parsing a flow sequence that starts at 1:4)"),
        (b"a:\n\t- b", "2:1: not YAML: found character that cannot start any token; indent with spaces, not tabs"),
        (b"a: b\n  c: d", "2:4: not YAML: mapping values are not allowed"),
        (b"ips: [::1]", "1:7: not YAML: did not find expected node content; put addresses that begin with `::` in quotes"),
        (b"\xff\xfea\x00", "1:1: not UTF-8 but UTF-16; save it as UTF-8"),
        (b"a: b\nc: x\xff", "2:5: not UTF-8: byte 0xff"),
        (b'a: "\x01"', "1:5: not YAML: control characters are not allowed: U+0001"),
        (b"\0", "1:1: not YAML: control characters are not allowed: U+0000"),
        (b"--- a\n--- b", "2:1: a second document; only one is read"),
        (b"{[1]: 2}", "1:2: a key must be a plain text"),
        (b"a: *nobody", '1:4: no anchor of this name before here: "nobody"'),
        (b"a: &a [*a]", '1:8: no anchor of this name before here: "a"'),
        (b"a: &x 1\nb: {<<: *x}", "2:5: `<<` takes a mapping or a list of mappings"),
        (b'"', "1:2: not YAML: found unexpected end of stream"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused_with_its_place(data: bytes, message: str) -> None:
    assert problem(data).startswith(message)


BILLION_LAUGHS = b"a0: &a0 [x]\n" + b"".join(
    b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 60)
)


# About a second each on the machines that it was written for; what it is about is minutes, or the end of memory.
@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 50 * 1024 * 1024, "1:1: larger than 16 MiB"),
        (b"[" * MAX_BYTES, "1:65: nested deeper than 64 levels"),
        (b"{" * MAX_BYTES, "1:65: nested deeper than 64 levels"),
        (b"- " * (MAX_BYTES // 2), "1:129: nested deeper than 64 levels"),
        (b"a: [" + b"[]," * (MAX_BYTES // 3 - 10), "1:899996: more than 300000 values"),
        (BILLION_LAUGHS, "17:18: more than 300000 values, aliases counted in full"),
        (b"#" * MAX_BYTES, "1:1: nothing in it"),
        (b'"' + b"\\x41" * (MAX_BYTES // 4 - 2), "1:16777210: not YAML"),
    ],
    ids=[
        "50 MiB of brackets",
        "brackets",
        "braces",
        "dashes",
        "empty lists",
        "billion laughs",
        "remark",
        "escapes",
    ],
)
def test_a_document_that_is_too_much_is_refused_within_seconds(data: bytes, message: str) -> None:
    assert problem(data).startswith(message)


DEEP = b"[" * 2000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("é: 1\r\nü: ".encode() + DEEP, "2:67: nested deeper than 64 levels"),
        (b"a:\n- b: {c: " + DEEP, "2:70: nested deeper than 64 levels"),
        (b"a: &x [1, *y, " + DEEP, '1:11: no anchor of this name before here: "y"'),
        (b'["a" ' + DEEP, "1:6: not YAML: did not find expected ',' or ']'"),
        (b"? " * 2000, "1:129: nested deeper than 64 levels"),
        (b"".join(b" " * n + b"a:\n" for n in range(1100)), "65:65: nested deeper than 64 levels"),
        (b"[" * 64 + b"a" + b"]" * 64 + b"]", "1:130: not YAML"),
    ],
    ids=[
        "after signs",
        "in blocks",
        "after an alias",
        "after a lost comma",
        "questions",
        "keys",
        "just not too deep",
    ],
)
def test_depth_is_refused_at_its_place_whatever_else_the_file_is(data: bytes, message: str) -> None:
    assert problem(data).startswith(message)


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert isinstance(compose(b"\xef\xbb\xbfa: b").root, Table)


def test_a_key_written_twice_is_reported_with_both_places() -> None:
    composed = compose(b"a: 1\nb: 2\n'a': 3\n")
    assert [str(p) for p in composed.problems] == ['3:1: written twice, first on line 1: "a"']


def test_an_alias_is_the_value_of_its_anchor() -> None:
    root = compose(b"a: &x [1, 2]\nb: *x").root
    assert isinstance(root, Table)
    assert root.get("a") is root.get("b")


def test_a_merged_mapping_gives_way_to_what_is_written() -> None:
    root = compose(
        b"base: &b {x: 1, y: 2}\nmore: &m {y: 9, z: 3}\nall:\n  y: 5\n  <<: [*b, *m]\nlate: {<<: *b, x: 7}"
    ).root
    assert isinstance(root, Table)
    both, late = root.get("all"), root.get("late")
    assert isinstance(both, Table)
    assert isinstance(late, Table)
    assert {k.text: v.text for k, v in both if isinstance(v, Scalar)} == {
        "x": "1",
        "y": "5",
        "z": "3",
    }
    assert {k.text: v.text for k, v in late if isinstance(v, Scalar)} == {"x": "7", "y": "2"}


def test_places_count_from_one_and_in_characters() -> None:
    root = compose("é: [ü, x]".encode()).root
    assert isinstance(root, Table)
    listing = root.get("é")
    assert isinstance(listing, Listing)
    assert [(n.line, n.column) for n in listing.items] == [(1, 5), (1, 8)]


@given(st.binary(max_size=200))
def test_any_bytes_give_a_document_or_a_reason(data: bytes) -> None:
    assert_document_or_reason(data)


YAMLISH = st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,? \t\n0~\x00é<", max_size=60)


@given(YAMLISH)
def test_any_text_of_yaml_signs_gives_a_document_or_a_reason(text: str) -> None:
    assert_document_or_reason(text.encode())


def assert_document_or_reason(data: bytes) -> None:
    reason = None
    try:
        compose(data)
    except Unreadable as error:
        reason = error.problem
    assert reason is None or (reason.line >= 1 and reason.column >= 1 and reason.message)
