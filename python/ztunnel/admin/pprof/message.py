"""A profile in the form that pprof reads (google/pprof, proto/profile.proto).

Knows the message and nothing of threads or memory. What a profile says twice, a string, a function, a place, stands in
it once and is named by number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ztunnel.wire.protobuf import bytes_field, integer_field, packed_field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Place: TypeAlias = "tuple[str, str, int]"
"""Function, file, line."""
Unit: TypeAlias = "tuple[str, str]"
"""What is counted and in what: `("cpu", "nanoseconds")`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedFile:
    """A piece of a file that is mapped to be run."""

    start: int
    limit: int
    offset: int
    file: str


class Message:
    """A profile, put together sample by sample."""

    def __init__(
        self,
        *,
        counted: Sequence[Unit],
        period: tuple[Unit, int] | None = None,
        mappings: Sequence[MappedFile] = (),
    ) -> None:
        """`counted` are the values of a sample, in their order; `period` is what passes between two samples."""
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str], int] = {}
        self._locations: dict[object, int] = {}
        self._mappings = mappings
        self._unnamed: set[int] = set()
        """Mappings with places that a reader has to find names for."""
        self._parts: list[bytes] = [bytes_field(1, self._unit(unit)) for unit in counted]
        if period is not None:
            unit, length = period
            self._parts += [bytes_field(11, self._unit(unit)), integer_field(12, length)]
        # The last one is what people want to see first: time, bytes.
        self._parts.append(integer_field(14, self._string(counted[-1][0])))

    def sample(
        self, stack: Iterable[int], values: Iterable[int], labels: Mapping[str, str]
    ) -> None:
        """One stack, as numbers that `place` and `address` gave, from the innermost on."""
        body = packed_field(1, stack) + packed_field(2, values)
        for key, value in labels.items():
            label = integer_field(1, self._string(key)) + integer_field(2, self._string(value))
            body += bytes_field(3, label)
        self._parts.append(bytes_field(2, body))

    def place(self, place: Place) -> int:
        """The number of a line of a function."""
        return self._location(place, 0, [place])

    def address(self, address: int, functions: Sequence[Place]) -> int:
        """The number of an instruction, and of what was inlined there, innermost first. Without functions it is for the
        reader to find out what it is: the mappings say where to look.
        """
        if not functions:
            self._unnamed.add(self._mapping_of(address))
        return self._location(address, address, functions)

    def comment(self, text: str) -> None:
        """Something that a person should know."""
        self._parts.append(integer_field(13, self._string(text)))

    def encode(self, *, began: float = 0.0, took: float = 0.0) -> bytes:
        """The whole message: `began` in seconds since 1970, `took` in seconds."""
        for number, mapping in enumerate(self._mappings, start=1):
            body = integer_field(1, number) + integer_field(2, mapping.start)
            body += integer_field(3, mapping.limit) + integer_field(4, mapping.offset)
            body += integer_field(5, self._string(mapping.file))
            body += integer_field(7, int(number not in self._unnamed))
            self._parts.append(bytes_field(3, body))
        times = integer_field(9, round(began * 1e9)) + integer_field(10, round(took * 1e9))
        # Last: whatever came before may have added some.
        strings = b"".join(bytes_field(6, text.encode()) for text in self._strings)
        return b"".join([*self._parts, times, strings])

    def _location(self, key: object, address: int, functions: Sequence[Place]) -> int:
        known = self._locations.get(key)
        if known is not None:
            return known
        number = self._locations[key] = len(self._locations) + 1
        body = integer_field(1, number)
        if address:
            body += integer_field(2, self._mapping_of(address)) + integer_field(3, address)
        for name, file, line in functions:
            function = integer_field(1, self._function(name, file)) + integer_field(2, line)
            body += bytes_field(4, function)
        self._parts.append(bytes_field(4, body))
        return number

    def _function(self, name: str, file: str) -> int:
        known = self._functions.get((name, file))
        if known is not None:
            return known
        number = self._functions[name, file] = len(self._functions) + 1
        body = integer_field(1, number) + integer_field(2, self._string(name))
        body += integer_field(3, self._string(name)) + integer_field(4, self._string(file))
        self._parts.append(bytes_field(5, body))
        return number

    def _mapping_of(self, address: int) -> int:
        for number, mapping in enumerate(self._mappings, start=1):
            if mapping.start <= address < mapping.limit:
                return number
        return 0

    def _unit(self, unit: Unit) -> bytes:
        kind, name = unit
        return integer_field(1, self._string(kind)) + integer_field(2, self._string(name))

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))


def read_mappings(maps: str) -> list[MappedFile]:
    """What is mapped to be run, from the text of `/proc/self/maps` (proc_pid_maps(5))."""
    found = []
    for line in maps.splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and "x" in parts[1] and parts[5].startswith("/"):
            start, _, limit = parts[0].partition("-")
            found.append(
                MappedFile(
                    start=int(start, 16),
                    limit=int(limit, 16),
                    offset=int(parts[2], 16),
                    file=parts[5],
                )
            )
    return found
