"""What may stand in a document, said as a table; every mistake is reported, none ends the reading.

A check takes a node and gives the plain value that JSON would hold, or `BAD` after it has reported why
not. Words mean what YAML 1.2 says and only where the value is expected: `no` is a text, `0777` and `1e3`
are not ports, `"80"` is not a number.

    PORTS = table_of(port_key, port)
    check = struct(Field("name", text, required=True), Field("ports", PORTS, default={}))
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from ztunnel.document.compose import shown
from ztunnel.document.tree import Listing, Node, Scalar, Table
from ztunnel.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


class Bad:
    """The type of `BAD`."""


BAD: Final = Bad()
"""What a check gives when the value cannot be used; the report says why."""

Check: TypeAlias = "Callable[[Node, str, Report], Json | Bad]"


class Report:
    """The mistakes found so far."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._suggestions: dict[str, str] = {}

    def add(self, node: Node, path: str, message: str) -> Bad:
        """Notes a mistake; gives `BAD` so that a check can end with it."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(node.line, node.column, path, message))
        elif len(self.problems) == MAX_PROBLEMS:
            self.problems.append(
                Problem(
                    node.line,
                    node.column,
                    "",
                    "more mistakes than anyone reads; no more are listed",
                )
            )
        return BAD

    def suggestion(self, word: str, known: Sequence[str]) -> str:
        """`; did you mean "x"?`, or what there is, if the list is short."""
        if word not in self._suggestions:
            # Each comparison costs up to a millisecond: a file of nonsense gets no advice after these.
            if len(self._suggestions) >= MAX_SUGGESTIONS:
                return ""
            self._suggestions[word] = _suggest(word, known)
        return self._suggestions[word]

    def sorted(self) -> list[Problem]:
        """In the order of the file."""
        return sorted(self.problems, key=lambda problem: (problem.line, problem.column))


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a `struct`. A field that is absent or null takes its default; without one it is left out."""

    name: str
    check: Check
    required: bool = False
    default: Json | Bad = BAD


def struct(*fields: Field) -> Check:
    """A mapping with known fields."""
    known = {field.name: field for field in fields}
    names = list(known)

    def check(node: Node, path: str, report: Report) -> Json | Bad:
        if not isinstance(node, Table) or node.tag is not None:
            return report.add(node, path, f"not a mapping: {describe(node)}")
        value: dict[str, Json] = {}
        good = True
        for key, _ in node:
            if key.text not in known:
                hint = report.suggestion(key.text, names)
                report.add(key, path, f"unknown field: {shown(key.text)}{hint}")
                good = False
        for name, field in known.items():
            entry_or_none = node.get(name)
            if entry_or_none is None:
                if field.required:
                    report.add(node, path, f"missing: `{name}`")
                    good = False
                elif not isinstance(field.default, Bad):
                    value[name] = field.default
                continue
            checked = field.check(entry_or_none, f"{path}.{name}" if path else name, report)
            if isinstance(checked, Bad):
                good = False
            else:
                value[name] = checked
        return value if good else BAD

    return check


def list_of(item: Check) -> Check:
    """A sequence of values of one kind."""

    def check(node: Node, path: str, report: Report) -> Json | Bad:
        if not isinstance(node, Listing) or node.tag is not None:
            return report.add(node, path, f"not a list: {describe(node)}")
        values = [item(entry, f"{path}[{index}]", report) for index, entry in enumerate(node.items)]
        good = [value for value in values if not isinstance(value, Bad)]
        return good if len(good) == len(values) else BAD

    return check


def table_of(key_check: Check, value_check: Check) -> Check:
    """A mapping whose keys are data. Two spellings of one key (`80` and `"080"`) cannot both pass."""

    def check(node: Node, path: str, report: Report) -> Json | Bad:
        if not isinstance(node, Table) or node.tag is not None:
            return report.add(node, path, f"not a mapping: {describe(node)}")
        value: dict[str, Json] = {}
        good = True
        for key, entry in node:
            where = f"{path}[{shown(key.text)}]"
            checked_key = key_check(key, where, report)
            checked = value_check(entry, where, report)
            if isinstance(checked_key, Bad) or isinstance(checked, Bad):
                good = False
            else:
                value[str(checked_key)] = checked
        return value if good else BAD

    return check


def text(node: Node, path: str, report: Report) -> Json | Bad:
    """A text, perhaps empty. What YAML 1.2 takes for a number or a truth must be quoted."""
    if not isinstance(node, Scalar):
        return report.add(node, path, f"not a text: {describe(node)}")
    if node.tag is not None and node.tag != STR_TAG:
        return report.add(node, path, f"a tag that means nothing here: {shown('!' + node.tag)}")
    if not node.quoted and node.tag is None and _NOT_TEXT.fullmatch(node.text):
        return report.add(node, path, f"not a text: {node.text[:80]}; put it in quotes")
    if len(node.text) > MAX_TEXT:
        return report.add(node, path, f"longer than {MAX_TEXT} characters: {len(node.text)}")
    if not node.text.isprintable():
        return report.add(node, path, f"has a character that cannot be printed: {shown(node.text)}")
    return node.text


def name(node: Node, path: str, report: Report) -> Json | Bad:
    """A text that is not empty and has no blank in it."""
    value = text(node, path, report)
    if isinstance(value, str) and (not value or " " in value):
        return report.add(node, path, f"empty or with a blank in it: {shown(value)}")
    return value


def spelled(is_right: Callable[[str], bool], what: str) -> Check:
    """A text of which `is_right` holds; `what` ends the sentence `not …`."""

    def check(node: Node, path: str, report: Report) -> Json | Bad:
        value = text(node, path, report)
        if isinstance(value, str) and not is_right(value):
            return report.add(node, path, f"not {what}: {shown(value)}")
        return value

    return check


def one_of(*names: str) -> Check:
    """One of a few words, as they are spelled."""

    def check(node: Node, path: str, report: Report) -> Json | Bad:
        value = text(node, path, report)
        if isinstance(value, str) and value not in names:
            hint = report.suggestion(value, names)
            return report.add(node, path, f"not one of {', '.join(names)}: {shown(value)}{hint}")
        return value

    return check


def boolean(node: Node, path: str, report: Report) -> Json | Bad:
    """`true` or `false`; YAML 1.1's `yes`, `on` and friends are refused rather than guessed at."""
    if isinstance(node, Scalar) and not node.quoted and node.tag is None:
        if node.text in ("true", "True", "TRUE"):
            return True
        if node.text in ("false", "False", "FALSE"):
            return False
    return report.add(node, path, f"not true or false: {describe(node)}")


def integer(low: int, high: int, what: str) -> Check:
    """A whole number in decimal digits."""

    def check(node: Node, path: str, report: Report) -> Json | Bad:
        if not isinstance(node, Scalar) or node.quoted or node.tag is not None:
            hint = (
                "; without the quotes"
                if isinstance(node, Scalar) and _DECIMAL.fullmatch(node.text)
                else ""
            )
            return report.add(node, path, f"not {what}: {describe(node)}{hint}")
        # 20 digits: Python refuses to convert thousands of them, and nobody means them.
        if (
            not _DECIMAL.fullmatch(node.text)
            or len(node.text) > 20
            or not low <= int(node.text) <= high
        ):
            return report.add(node, path, f"not {what} ({low}-{high}): {describe(node)}")
        return int(node.text)

    return check


def integer_key(low: int, high: int, what: str) -> Check:
    """The same as the key of a mapping, where JSON leaves no choice but quotes."""
    plain = integer(low, high, what)

    def check(node: Node, path: str, report: Report) -> Json | Bad:
        if isinstance(node, Scalar) and node.quoted:
            node = Scalar(node.line, node.column, node.tag, node.text, quoted=False)
        return plain(node, path, report)

    return check


def describe(node: Node) -> str:
    """What stands there, as it is shown after the colon of a message."""
    if isinstance(node, Table):
        return "a mapping"
    if isinstance(node, Listing):
        return "a list"
    assert isinstance(node, Scalar)  # noqa: S101 - the three kinds of node there are
    if node.tag is not None and node.tag != STR_TAG:
        return shown(f"!{node.tag} {node.text}")
    if node.quoted:
        return shown(node.text)
    if node.is_null:
        return "nothing"
    return node.text if len(node.text) <= 80 and node.text.isprintable() else shown(node.text)


def _suggest(word: str, known: Sequence[str]) -> str:
    # Imported where it is needed: only mistakes pay for it.
    import difflib

    # First one that differs in case only: "healthy" is nearer to "Unhealthy" than to "Healthy" by difflib's rule.
    close = [candidate for candidate in known if candidate.lower() == word.lower()]
    close = close or difflib.get_close_matches(word[:64], known, n=1)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; there are {', '.join(known)}" if len(known) <= 12 else ""


STR_TAG = "tag:yaml.org,2002:str"
# Longest name or path that is taken; host names end at 253, SPIFFE IDs at 2048 (their standard, §2.3).
MAX_TEXT = 4096
MAX_SUGGESTIONS = 200
# Every mistake of a file that somebody wrote, not every one of a file that is something else altogether.
MAX_PROBLEMS = 10_000

# YAML 1.2.2 §10.3.2 (core schema): what a plain scalar may be other than a text.
_NOT_TEXT = re.compile(
    r"true|True|TRUE|false|False|FALSE|null|Null|NULL|~|"
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|"
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN"
)
# No sign, no leading zero (octal to YAML 1.1), no underscore, no exponent: one spelling for one number.
_DECIMAL = re.compile(r"0|[1-9][0-9]*")
