"""The same HTTP/2 conversation in other words: what a peer may do to its frames without changing their meaning.

A header block may be cut into CONTINUATION frames, padded, given a priority; DATA may be cut; PRIORITY, PING and
frames nobody knows may stand between; and TLS may carry it all in pieces of any size (RFC 9113 §4–6).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Stays far below what the engine allows of each (rust/hbone/src/limits.rs).
INSERTED = 60


@dataclass(kw_only=True)
class Spelling:
    """How a peer writes. `seed` None leaves its frames as they are."""

    name: str
    seed: int | None = None
    piece: int | None = None
    """Bytes per TLS record; None is one record for all, or by chance if there is a seed."""
    _random: random.Random = field(init=False)
    _inserted: int = field(init=False, default=0)
    _greeted: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def again(self) -> Spelling:
        """The same from its start: one for each connection."""
        return Spelling(name=self.name, seed=self.seed, piece=self.piece)

    def chance(self, probability: float) -> bool:
        """By chance where there is a seed, never otherwise."""
        return self.seed is not None and self._random.random() < probability

    def up_to(self, most: int) -> int:
        """A number from 1 to `most`; `most` itself where there is no seed."""
        return most if self.seed is None else self._random.randint(1, most)

    def padding(self, room: int) -> int | None:
        """Bytes of padding for a DATA frame with so much room left."""
        return self._random.randint(0, min(room, 255)) if room > 0 and self.chance(0.4) else None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """`data` as TLS gets it."""
        while data:
            if self.piece is not None:
                size = self.piece
            elif self.seed is None:
                size = len(data)
            else:
                size = self._random.choice([1, 2, 9, 10, 100, 4096, len(data)])
            yield data[:size]
            data = data[size:]

    def rewrite(self, data: bytes) -> bytes:
        """Whole frames in, whole frames out."""
        if self.seed is None:
            return data
        out = bytearray()
        if data.startswith(PREFACE):
            out += PREFACE
            data = data[len(PREFACE) :]
        while data:
            frame, original = _first(data)
            data = data[len(original) :]
            if not self._greeted:
                out += self._greeting(frame)
                continue
            out += self._insertion()
            match frame:
                case HeadersFrame():
                    out += self._rewrite_headers(frame)
                case DataFrame() if "PADDED" not in frame.flags and len(frame.data) > 1:
                    out += self._rewrite_data(frame)
                case _:
                    out += original
        return bytes(out)

    def _greeting(self, frame: Frame) -> bytes:
        """The first frame must be SETTINGS, so nothing comes before it; settings nobody knows may be in it."""
        assert isinstance(frame, SettingsFrame)
        self._greeted = True
        frame.settings |= {0x0A0A: 1, 0x99: 0xFFFFFFFF, 0xFFFF: 0}
        return bytes(frame.serialize())

    def _rewrite_headers(self, frame: HeadersFrame) -> bytes:
        cuts = sorted(self._random.randint(0, len(frame.data)) for _ in range(self.up_to(4) - 1))
        blocks = [frame.data[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
        first = HeadersFrame(frame.stream_id, blocks[0])
        if "END_STREAM" in frame.flags:
            first.flags.add("END_STREAM")
        if self.chance(0.5):
            first.flags.add("PADDED")
            first.pad_length = self._random.randint(0, 255)
        if self.chance(0.5):
            first.flags.add("PRIORITY")
            first.depends_on, first.stream_weight = 0, self._random.randint(0, 255)
            first.exclusive = self.chance(0.5)
        frames: list[HeadersFrame | ContinuationFrame] = [first]
        frames += [ContinuationFrame(frame.stream_id, block) for block in blocks[1:]]
        frames[-1].flags.add("END_HEADERS")
        return b"".join(each.serialize() for each in frames)

    def _rewrite_data(self, frame: DataFrame) -> bytes:
        cut = self._random.randint(0, len(frame.data) - 1)  # the first may be empty
        parts = [DataFrame(frame.stream_id, part) for part in (frame.data[:cut], frame.data[cut:])]
        if "END_STREAM" in frame.flags:
            parts[1].flags.add("END_STREAM")
        between = self._insertion()
        return bytes(parts[0].serialize()) + between + bytes(parts[1].serialize())

    def _insertion(self) -> bytes:
        if self._inserted >= INSERTED or not self.chance(0.3):
            return b""
        self._inserted += 1
        frame: Frame
        match self._random.randrange(3):
            case 0:
                # Of any stream, also one that nobody has opened; it depends on another.
                stream = self._random.randrange(1, 100)
                frame = PriorityFrame(stream, depends_on=stream + 1, stream_weight=7)
            case 1:
                frame = PingFrame(0, self._random.randbytes(8))
            case _:
                body = self._random.randbytes(self._random.choice([0, 1, 300]))
                kind = self._random.choice([0x0B, 0x20, 0xFA])
                stream = self._random.randrange(0, 10)
                frame = ExtensionFrame(type=kind, stream_id=stream, flag_byte=0xFF, body=body)
                frame.body_len = len(body)  # `hyperframe` only counts what it has parsed
        return bytes(frame.serialize())


def _first(data: bytes) -> tuple[Frame, bytes]:
    """The first frame, read, and as it stands there."""
    frame, length = Frame.parse_frame_header(memoryview(data[:9]))
    frame.parse_body(memoryview(data[9 : 9 + length]))
    return frame, data[: 9 + length]


WHOLE = Spelling(name="whole")
BYTES = Spelling(name="byte by byte", piece=1)
SPELLINGS = [WHOLE, BYTES, *(Spelling(name=f"seed {seed}", seed=seed) for seed in range(12))]
