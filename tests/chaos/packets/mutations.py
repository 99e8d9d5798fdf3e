"""Turn real frames into what no honest process sends; the same seed turns them the same way.

A frame is what stands before its msgpack value, and the value. Half of the mutations change the
value and pack it again, so that they get past the first look; the others change bytes.
"""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Any, Final, TypeAlias

import msgpack

Value: TypeAlias = Any

_EVIL: Final[tuple[Value, ...]] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**32 - 1,
    2**53 + 1,
    2**63 - 1,
    2**64 - 1,
    -(2**63),
    nan,
    inf,
    -inf,
    -0.0,
    1e308,
    5e-324,
    "",
    "\0",
    "*",
    "\u202e\x1b[31m",
    "../../etc",
    "x" * 70_000,
    b"",
    b"\xff\xfe\x00",
    bytes(70_000),
    [],
    {},
    [[]] * 300,
    {"": [None]},
    msgpack.ExtType(1, b"\0\1\xc0"),
    msgpack.ExtType(1, struct.pack("!H", 8) + msgpack.packb(["|O", [1], b""]) + bytes(8)),
    msgpack.ExtType(1, struct.pack("!H", 7) + msgpack.packb(["<f8", [1], b""]) + bytes(8)),
    msgpack.ExtType(2, b"\x93\1\0\x10"),
    msgpack.ExtType(3, b"\1"),
    msgpack.ExtType(77, b"?"),
)
"""What a field may turn into."""

_MANY: Final = 3000
"""Items of a list that is repeated, at most: lists are in lists."""

_DEPTHS: Final = (50, 512, 1100, 20_000)

_LIES: Final = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\1",
    b"\xa2\xff\xfe",
    b"\xc1",
    b"\xd4\x01\x00",
    b"\x81\x90\x01",
    b"\xd4\xff\x00",
    b"\xd6\xff\x00\x00\x00\x01",
)
"""Values whose length is a lie, text that is none, and what stands for nothing."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One real frame: what opens it, and the msgpack value behind that."""

    head: bytes
    body: bytes

    @property
    def whole(self) -> bytes:
        """The frame as it was sent."""
        return self.head + self.body


class Mutator:
    """Mutates the frames of one conversation; every step follows from the seed alone."""

    def __init__(self, seed: int, frames: Sequence[Frame]) -> None:
        assert frames
        self.rng = random.Random(seed)
        self.frames = frames
        self._ways: tuple[Callable[[Frame], bytes], ...] = (
            self._other_field,
            self._other_field,
            self._other_field,
            self._other_fields,
            self._nested,
            self._lying,
            self._flipped,
            self._flipped,
            self._cut,
            self._longer,
            self._spliced,
            self._renumbered,
            self._noise,
            lambda frame: frame.whole,
        )

    def next(self) -> bytes:
        """Give one frame more."""
        return self._mutated(self.rng.choice(self.frames))

    def mutated(self, head: bytes, body: bytes) -> bytes:
        """Mutate one frame."""
        return self._mutated(Frame(head, body))

    def _mutated(self, frame: Frame) -> bytes:
        return self.rng.choice(self._ways)(frame)

    # --- values -----------------------------------------------------------------------------------

    def _other_field(self, frame: Frame) -> bytes:
        return frame.head + self._repacked(frame.body, 1)

    def _other_fields(self, frame: Frame) -> bytes:
        return frame.head + self._repacked(frame.body, self.rng.randrange(2, 5))

    def _repacked(self, body: bytes, changes: int) -> bytes:
        try:
            value = msgpack.unpackb(body, strict_map_key=False)
        except (ValueError, msgpack.UnpackException):
            return self._noise_of(len(body))
        for _ in range(changes):
            value = self._changed(value)
        packed: bytes = msgpack.packb(value)
        return packed

    def _changed(self, value: Value) -> Value:
        """Change one thing in a value, however deep."""
        rng = self.rng
        if isinstance(value, bytes) and value[:1] >= b"\x90" and rng.random() < 0.8:
            return self._repacked(value, 1)  # a message inside another, as in a greeting
        if isinstance(value, list) and value and rng.random() < 0.8:
            return self._changed_list(list(value))
        if isinstance(value, dict) and value and rng.random() < 0.8:
            key = rng.choice(list(value))
            return {**value, key: self._changed(value[key])}
        if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.4:
            return max(-(2**63), min(2**64 - 1, value + rng.choice((-1, 1, 2, 7, 256, 2**32))))
        return rng.choice(_EVIL)

    def _changed_list(self, items: list[Value]) -> list[Value]:
        rng = self.rng
        place = rng.randrange(len(items))
        match rng.randrange(12):
            case 0:
                del items[place]
            case 1:
                items.insert(place, items[place])
            case 2:
                rng.shuffle(items)
            case 3:
                items.append(rng.choice(_EVIL))
            case 4:
                items += items * min(rng.choice((1, 70, 1000)), _MANY // len(items))
            case 5 if type(items[0]) is int:
                items[0] = rng.randrange(20)  # another message with these fields
            case _:
                items[place] = self._changed(items[place])
        return items

    def _nested(self, frame: Frame) -> bytes:
        depth, opens = self.rng.choice(_DEPTHS), self.rng.choice((b"\x91", b"\x81\xa0"))
        return frame.head + frame.body[: self.rng.randrange(3)] + opens * depth + b"\xc0"

    def _lying(self, frame: Frame) -> bytes:
        at = self.rng.randrange(len(frame.body) + 1)
        return frame.head + frame.body[:at] + self.rng.choice(_LIES) + frame.body[at + 1 :]

    # --- bytes ------------------------------------------------------------------------------------

    def _flipped(self, frame: Frame) -> bytes:
        whole = bytearray(frame.whole)
        for _ in range(self.rng.choice((1, 1, 2, 8))):
            if whole:
                whole[self.rng.randrange(len(whole))] ^= 1 << self.rng.randrange(8)
        return bytes(whole)

    def _cut(self, frame: Frame) -> bytes:
        whole = frame.whole
        return whole[: self.rng.randrange(len(whole) + 1)]

    def _longer(self, frame: Frame) -> bytes:
        return frame.whole + self._noise_of(self.rng.choice((1, 9, 600)))

    def _spliced(self, frame: Frame) -> bytes:
        other = self.rng.choice(self.frames).whole
        whole = frame.whole
        return whole[: self.rng.randrange(len(whole) + 1)] + other[self.rng.randrange(len(other)) :]

    def _renumbered(self, frame: Frame) -> bytes:
        """Write an extreme number somewhere, as wide as lengths and numbers are."""
        whole = bytearray(frame.whole)
        width = self.rng.choice((1, 2, 4, 8))
        at = self.rng.randrange(max(1, len(whole) - width + 1))
        number = self.rng.choice((0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1))
        whole[at : at + width] = number.to_bytes(width, "big")
        return bytes(whole)

    def _noise(self, frame: Frame) -> bytes:
        return frame.head * self.rng.randrange(2) + self._noise_of(self.rng.choice((0, 1, 5, 300)))

    def _noise_of(self, size: int) -> bytes:
        return self.rng.randbytes(size)
