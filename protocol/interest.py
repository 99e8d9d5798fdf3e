"""The interest page: what anybody wants of the bus, read by workers before they send an event.

    generation | bytes of the list | checksum | patterns, with a NUL between them

One memfd a node, mapped by each of its workers. The generation is odd while the node writes. Who
reads at that moment, or finds a list that the checksum does not confirm, takes everything for
wanted: what is sent in vain costs a little, and the node filters again.
"""

import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Iterable
from typing import Final

from protocol.names import EVERYTHING, Topic
from protocol.patterns import patterns_of

SIZE: Final = 64 * 1024
"""Bytes of a page: 5,000 patterns of 12 bytes. More than fit are written as everything."""

MAX_ANSWERS: Final = 1024
"""Topics whose answer a worker remembers; it may make up a new one for every event."""

_FEW: Final = 8
"""Topics that are searched in the text: to take it apart costs as much as eight times that."""

_UNWRITTEN: Final = 0
"""The generation of a new page; it says everything."""

_HEAD: Final = struct.Struct("=QQQ")
_ROOM: Final = SIZE - _HEAD.size
_GENERATION: Final = 0
_LENGTH: Final = 1
_CHECKSUM: Final = 2

_FUTURE_WRITE: Final = 0x10
"""The kernel's own number; `fcntl` names it from Python 3.13 on."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _FUTURE_WRITE | fcntl.F_SEAL_SEAL


class InterestWriter:
    """The node's side; lives as long as the node. Until told otherwise, everything is wanted.

    Attributes:
        fd: For the workers. Through it, and whatever they open by it, the page can only be read.
    """

    def __init__(self) -> None:
        self.fd = os.memfd_create("interest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, SIZE)
        self._page = mmap.mmap(self.fd, SIZE)
        # Only seals hold: a descriptor that was opened for reading could be opened again.
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        self._words = memoryview(self._page).cast("Q")

    def write(self, patterns: Iterable[str]) -> None:
        """Let the workers know what is wanted; it holds when this returns."""
        text = "\0".join(patterns).encode()
        if len(text) > _ROOM:
            text = EVERYTHING.encode()
        generation = self._words[_GENERATION]
        self._words[_GENERATION] = generation + 1
        self._page[_HEAD.size : _HEAD.size + len(text)] = text
        self._words[_LENGTH] = len(text)
        self._words[_CHECKSUM] = _checksum(text, generation + 2)
        self._words[_GENERATION] = generation + 2

    def close(self) -> None:
        """Let go of the page; workers that live on keep theirs."""
        self._words.release()
        self._page.close()
        os.close(self.fd)


class InterestReader:
    """A worker's side; lives as long as the worker. Any of its threads may ask it."""

    __slots__ = ("_answers", "_page", "_words")

    def __init__(self, fd: int) -> None:
        self._page = memoryview(mmap.mmap(fd, SIZE, prot=mmap.PROT_READ))
        self._words = self._page.cast("Q")
        self._answers = _Answers(_UNWRITTEN, EVERYTHING.encode())

    def wants(self, topic: Topic) -> bool:
        """Say whether anybody may want a type of events; costs one load where nothing changed."""
        answers = self._answers
        if self._words[0] != answers.generation:
            answers = self._read()
        return answers[topic]

    def _read(self) -> "_Answers":
        generation = self._words[_GENERATION]
        text = bytes(self._page[_HEAD.size :][: self._words[_LENGTH]])
        # Not every machine shows the node's stores in their order, hence the checksum.
        if (
            generation & 1
            or self._words[_CHECKSUM] != _checksum(text, generation)
            or self._words[_GENERATION] != generation
        ):
            return _TORN
        # Swapped in whole: another thread may be reading an older or newer page meanwhile.
        self._answers = _Answers(generation, text)
        return self._answers


class _Answers(dict[Topic, bool]):
    """What one generation of a page says of the topics that were asked for."""

    __slots__ = ("_patterns", "_text", "generation")

    def __init__(self, generation: int, text: bytes) -> None:
        super().__init__()
        self.generation = generation
        self._text = b"\0%b\0" % text
        self._patterns: frozenset[bytes] | None = None

    def __missing__(self, topic: Topic) -> bool:
        if len(self) >= MAX_ANSWERS:
            self.clear()
        answer = self[topic] = self._look_up(topic)
        return answer

    def _look_up(self, topic: Topic) -> bool:
        patterns = [one.encode("utf-8", "surrogatepass") for one in patterns_of(topic)]
        if self._patterns is None and len(self) < _FEW:
            return any(b"\0%b\0" % one in self._text for one in patterns)
        self._patterns = self._patterns or frozenset(self._text.split(b"\0"))
        return not self._patterns.isdisjoint(patterns)


_TORN: Final = _Answers(_UNWRITTEN, EVERYTHING.encode())
"""What is answered while a page cannot be read, and asked again the next time."""


def _checksum(text: bytes, generation: int) -> int:
    return zlib.crc32(text, generation & 0xFFFFFFFF)
