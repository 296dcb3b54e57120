"""Bytes to tree, within limits: size, depth, number of nodes, expansion of aliases.

Works on libyaml's events, not on PyYAML's loaders: those recurse as deep as the input says, expand
aliases without counting and give meanings to words (`no`, `0777`) that nobody asked for. Never raises
anything but `Unreadable`, whatever the bytes are (spec/reliability.md BI-Y).
"""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from ztunnel.document.tree import Listing, Node, Scalar, Table
from ztunnel.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# 16 MiB holds about 50,000 workloads; the text is in memory three times while it is read.
MAX_BYTES = 16 * 1024 * 1024
# The deepest value of a mesh file (policy → rules → clause → match → StringMatch) is at 11.
MAX_DEPTH = 64
# About 20,000 workloads. Keeps the worst file under 2 s (up to 4 µs a node with its checks) and 200 MiB while
# it is read; aliases count in full.
MAX_NODES = 300_000
# Past this many duplicate keys a file is nonsense and a list of them helps nobody.
MAX_DUPLICATES = 1_000


class Unreadable(Exception):
    """The bytes are not a document; says where and why."""

    def __init__(self, line: int, column: int, message: str) -> None:
        self.problem = Problem(line, column, "", message)
        super().__init__(str(self.problem))


class Composed(NamedTuple):
    """A document and the mistakes that do not keep it from being read further."""

    root: Node
    problems: list[Problem]


def compose(data: bytes) -> Composed:
    """Reads one YAML document; raises `Unreadable`."""
    if len(data) > MAX_BYTES:
        raise Unreadable(1, 1, f"larger than {MAX_BYTES // 1024 // 1024} MiB")
    text = _decode(data)
    try:
        return _composed(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise Unreadable(line, column, _explain(error, text, line)) from None
    except yaml.YAMLError as error:
        raise Unreadable(*_place_of(error, text), _reader_message(error)) from None


def _composed(text: str) -> Composed:
    """The document, or the first mistake in it.

    libyaml looks up to 1024 characters ahead of its events, and since 0.2.6 it refuses a depth of its own there, before
    we have heard of ours. Without what it refused it hands out the events before, with the first mistake among them.
    """
    composer = _Composer(text)
    try:
        return Composed(composer.document(), composer.problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        if mark is None or _NESTING not in str(error.problem).lower():
            raise
    # Behind the handler, which keeps all that was read so far.
    del composer
    _Composer(text[: mark.index]).document()
    raise Unreadable(mark.line + 1, mark.column + 1, _TOO_DEEP)


class _Composer:
    """One pass over the events of a document, with an explicit stack instead of recursion."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._parser: Any = _LOADER(text)
        self._nodes = 0
        self._anchors: dict[str, tuple[Node, int]] = {}

    def document(self) -> Node:
        self._parser.get_event()  # stream start
        if self._parser.check_event(yaml.StreamEndEvent):
            raise Unreadable(
                1, 1, "nothing in it; a mesh file has `workloads:`, `services:` or `policies:`"
            )
        self._parser.get_event()  # document start
        root = self._value()
        self._parser.get_event()  # document end
        if not self._parser.check_event(yaml.StreamEndEvent):
            mark = self._parser.get_event().start_mark
            raise Unreadable(mark.line + 1, mark.column + 1, "a second document; only one is read")
        return root

    def _value(self) -> Node:
        """One value with all that is in it."""
        stack: list[_Open] = []
        get_event: Callable[[], Any] = self._parser.get_event
        while True:
            event = get_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                mark = event.start_mark
                node: Node = Scalar(
                    mark.line + 1,
                    mark.column + 1,
                    _tag(event),
                    event.value,
                    quoted=event.style not in _PLAIN,
                )
                self._count(1, mark)
                self._remember(event, node, 1)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                mark = event.start_mark
                self._count(1, mark)
                if len(stack) >= MAX_DEPTH:
                    raise Unreadable(mark.line + 1, mark.column + 1, _TOO_DEEP)
                make = Table if kind is yaml.MappingStartEvent else Listing
                opened = make(mark.line + 1, mark.column + 1, _tag(event))
                stack.append(_Open(opened, event.anchor, self._nodes))
                continue
            elif kind is yaml.AliasEvent:
                node = self._alias(event)
            else:  # the end of a mapping or sequence
                done = stack.pop()
                node = done.node
                if done.anchor is not None:
                    self._anchors[done.anchor] = (node, self._nodes - done.before + 1)
            if not stack:
                return node
            self._place(stack[-1], node)

    def _place(self, parent: _Open, node: Node) -> None:
        """Puts a finished value into the collection that is open around it."""
        if isinstance(parent.node, Listing):
            parent.node.items.append(node)
        elif isinstance(parent.node, Table):
            if parent.key is None:
                if not isinstance(node, Scalar):
                    raise Unreadable(node.line, node.column, "a key must be a plain text")
                parent.key = node
            else:
                self._enter(parent.node, parent.key, node)
                parent.key = None

    def _enter(self, table: Table, key: Scalar, value: Node) -> None:
        if key.text == "<<" and not key.quoted:
            _merge(table, key, value)
            return
        before = table.entries.get(key.text)
        # What `<<` brought in gives way to what is written here; a key written twice is a mistake.
        if before is not None and before[0].tag != _MERGED:
            if len(self.problems) < MAX_DUPLICATES:
                message = f"written twice, first on line {before[0].line}: {shown(key.text)}"
                self.problems.append(Problem(key.line, key.column, "", message))
            return
        table.entries[key.text] = (key, value)

    def _alias(self, event: Any) -> Node:
        mark = event.start_mark
        found = self._anchors.get(event.anchor)
        if found is None:
            message = f"no anchor of this name before here: {shown(event.anchor)}"
            raise Unreadable(mark.line + 1, mark.column + 1, message)
        node, weight = found
        self._count(weight, mark)
        return node

    def _remember(self, event: Any, node: Node, weight: int) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, weight)

    def _count(self, nodes: int, mark: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            message = f"more than {MAX_NODES} values, aliases counted in full"
            raise Unreadable(mark.line + 1, mark.column + 1, message)


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("anchor", "before", "key", "node")

    def __init__(self, node: Node, anchor: str | None, before: int) -> None:
        self.node = node
        self.anchor = anchor
        self.before = before
        self.key: Scalar | None = None


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Half the time of a large file is the cycle collector walking a tree that has no cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def shown(text: str) -> str:
    """A value as it is shown in a message: on one line, quoted, not too long."""
    cut = text if len(text) <= 80 else text[:77] + "..."
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut) + '"'


def _merge(table: Table, key: Scalar, value: Node) -> None:
    """`<<: *base` or `<<: [*one, *two]`; earlier ones win, as in YAML's merge type."""
    sources = value.items if isinstance(value, Listing) else [value]
    for source in sources:
        if not isinstance(source, Table):
            raise Unreadable(key.line, key.column, "`<<` takes a mapping or a list of mappings")
        for name, (original, entry) in source.entries.items():
            if name not in table.entries:
                mark = Scalar(
                    original.line, original.column, _MERGED, original.text, quoted=original.quoted
                )
                table.entries[name] = (mark, entry)


def _tag(event: Any) -> str | None:
    tag = event.tag
    if tag is None or tag == "!":
        return None
    return str(tag).removeprefix("!")


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable(1, 1, "not UTF-8 but UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise Unreadable(line, column, f"not UTF-8: byte 0x{data[error.start]:02x}") from None
    if not text.strip():
        what = "empty" if not data else "nothing but blanks in it"
        raise Unreadable(1, 1, f"{what}; a mesh file has `workloads:`, `services:` or `policies:`")
    return text


def _explain(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    """libyaml's sentence, with a hint where its words are known to puzzle people."""
    message = f"not YAML: {error.problem}"
    if (
        error.context
        and error.context_mark
        and error.context_mark.index != getattr(error.problem_mark, "index", None)
    ):
        start = error.context_mark
        message += f" ({error.context} that starts at {start.line + 1}:{start.column + 1})"
    lines = text.split("\n", line)
    content = lines[line - 1] if line <= len(lines) else ""
    if "\t" in content and "cannot start any token" in str(error.problem):
        message += "; indent with spaces, not tabs"
    elif "::" in content and "expected node content" in str(error.problem):
        message += "; put addresses that begin with `::` in quotes"
    return message


def _place_of(error: yaml.YAMLError, text: str) -> tuple[int, int]:
    """Where a reader error is: libyaml gives an offset only."""
    offset = getattr(error, "position", None)
    if not isinstance(offset, int) or offset < 0:
        return 1, 1
    before = text.encode()[:offset].decode("utf-8", "replace")
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _reader_message(error: yaml.YAMLError) -> str:
    reason = getattr(error, "reason", None) or str(error).splitlines()[0]
    character = getattr(error, "character", None)
    return f"not YAML: {reason}" + (f": U+{character:04X}" if isinstance(character, int) else "")


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"

# Of libyaml's sentence about its own limit.
_NESTING = "maximum nesting"

# Marks a key that `<<` brought in, so that one written out may replace it. Not a tag that YAML can spell.
_MERGED = "\0merged"

# What libyaml and PyYAML's own parser call the style of an unquoted scalar.
_PLAIN = (None, "")

# libyaml where PyYAML was built with it (every wheel is), which is 20 times as fast.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
