"""A profile as pprof's own reader takes it: `google.protobuf` with the fields of profile.proto, and its rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

KINDS = descriptor_pb2.FieldDescriptorProto

# Names, numbers and types of google/pprof's proto/profile.proto, as far as we write them.
MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "ValueType": {"type": (1, "int64", False), "unit": (2, "int64", False)},
    "Label": {"key": (1, "int64", False), "str": (2, "int64", False), "num": (3, "int64", False)},
    "Sample": {
        "location_id": (1, "uint64", True),
        "value": (2, "int64", True),
        "label": (3, "Label", True),
    },
    "Mapping": {
        "id": (1, "uint64", False),
        "memory_start": (2, "uint64", False),
        "memory_limit": (3, "uint64", False),
        "file_offset": (4, "uint64", False),
        "filename": (5, "int64", False),
        "has_functions": (7, "bool", False),
    },
    "Line": {"function_id": (1, "uint64", False), "line": (2, "int64", False)},
    "Location": {
        "id": (1, "uint64", False),
        "mapping_id": (2, "uint64", False),
        "address": (3, "uint64", False),
        "line": (4, "Line", True),
    },
    "Function": {
        "id": (1, "uint64", False),
        "name": (2, "int64", False),
        "system_name": (3, "int64", False),
        "filename": (4, "int64", False),
    },
    "Profile": {
        "sample_type": (1, "ValueType", True),
        "sample": (2, "Sample", True),
        "mapping": (3, "Mapping", True),
        "location": (4, "Location", True),
        "function": (5, "Function", True),
        "string_table": (6, "string", True),
        "time_nanos": (9, "int64", False),
        "duration_nanos": (10, "int64", False),
        "period_type": (11, "ValueType", False),
        "period": (12, "int64", False),
        "comment": (13, "int64", True),
        "default_sample_type": (14, "int64", False),
    },
}
SCALARS = {
    "int64": KINDS.TYPE_INT64,
    "uint64": KINDS.TYPE_UINT64,
    "bool": KINDS.TYPE_BOOL,
    "string": KINDS.TYPE_STRING,
}


@dataclass(frozen=True)
class Stack:
    """A sample, with its numbers looked up."""

    functions: list[str]
    """Innermost first, what was inlined as well."""
    values: dict[str, int]
    labels: dict[str, str]


class Profile:
    """A profile that is whole: every number in it leads somewhere."""

    def __init__(self, data: bytes) -> None:
        self.message: Any = _message()
        self.message.ParseFromString(data)
        strings = list(self.message.string_table)
        assert strings[0] == ""
        self.types = [(strings[t.type], strings[t.unit]) for t in self.message.sample_type]
        assert self.types
        functions = {f.id: strings[f.name] for f in self.message.function}
        mappings = {m.id for m in self.message.mapping} | {0}
        locations = {}
        for location in self.message.location:
            assert location.id not in locations
            assert location.id > 0
            assert location.mapping_id in mappings
            locations[location.id] = [functions[line.function_id] for line in location.line]
        self.comments = [strings[number] for number in self.message.comment]
        self.stacks = [
            Stack(
                functions=[name for number in s.location_id for name in locations[number]],
                values=dict(zip((kind for kind, _ in self.types), s.value, strict=True)),
                labels={strings[label.key]: strings[label.str] for label in s.label},
            )
            for s in self.message.sample
        ]

    def unnamed_in(self, file: str) -> int:
        """Places in a file that a reader has to find names for, and is told to."""
        strings = self.message.string_table
        mappings = {
            mapping.id
            for mapping in self.message.mapping
            if strings[mapping.filename].endswith(file) and not mapping.has_functions
        }
        places = self.message.location
        return sum(place.mapping_id in mappings and not place.line for place in places)

    def of(self, side: str) -> list[Stack]:
        """What one half of the process did."""
        return [stack for stack in self.stacks if stack.labels["side"] == side]


def _message() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="p", syntax="proto3")
    for name, members in MESSAGES.items():
        message = file.message_type.add(name=name)
        for member, (number, kind, repeated) in members.items():
            field = message.field.add(
                name=member,
                number=number,
                label=KINDS.LABEL_REPEATED if repeated else KINDS.LABEL_OPTIONAL,
                type=SCALARS.get(kind, KINDS.TYPE_MESSAGE),
            )
            if kind not in SCALARS:
                field.type_name = f".p.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("p.Profile"))()
