import ctypes
import errno
import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.interest import MAX_ANSWERS, SIZE, InterestReader, InterestWriter
from protocol.names import EVERYTHING, Topic

LOSS, STEP, EPOCH = Topic("Loss"), Topic("Step"), Topic("Trainer.epoch")


@pytest.fixture
def writer() -> Iterator[InterestWriter]:
    """A node's page."""
    writer = InterestWriter()
    yield writer
    writer.close()


class TestPage:
    def test_what_is_written_is_wanted(self, writer: InterestWriter) -> None:
        """
        A reader says of each topic whether some pattern on the page matches it, and nothing else.
        """
        reader = InterestReader(writer.fd)
        writer.write(["Loss", "Trainer.*", "Größe"])

        for _ in range(2):
            assert [reader.wants(topic) for topic in (LOSS, STEP, EPOCH)] == [True, False, True]
            assert reader.wants(Topic("Größe"))
            assert not reader.wants(Topic("Trainer"))
            assert not reader.wants(Topic("oss"))
            assert not reader.wants(Topic("\udcff"))
            reader._answers.clear()
            for number in range(20):  # so many that the text is taken apart
                assert not reader.wants(Topic(f"t{number}"))

    def test_a_change_is_seen_at_once(self, writer: InterestWriter) -> None:
        """
        The next question after a page was written has the new answer, and one after it as well.
        """
        reader = InterestReader(writer.fd)
        for patterns, answer in ((["Loss"], True), ([], False), (["*"], True), (["Step"], False)):
            writer.write(patterns)

            assert [reader.wants(LOSS), reader.wants(LOSS)] == [answer, answer]

    def test_a_page_that_nobody_wrote_says_everything(self, writer: InterestWriter) -> None:
        """
        Neither a new node's workers nor a page of zeros keep any event back.
        """
        fd = os.memfd_create("interest")
        os.truncate(fd, SIZE)

        assert InterestReader(writer.fd).wants(LOSS)
        assert InterestReader(fd).wants(LOSS)
        os.close(fd)

    def test_what_does_not_fit_is_everything(self, writer: InterestWriter) -> None:
        """
        A page holds thousands of patterns; when there are more, nothing is kept back.
        """
        reader = InterestReader(writer.fd)
        patterns = [f"Type{number:08}" for number in range(5_000)]
        writer.write(patterns)
        assert reader.wants(Topic("Type00004999"))
        assert not reader.wants(LOSS)

        writer.write(f"{pattern}.of.many" for pattern in patterns)
        assert reader.wants(LOSS)

    def test_what_is_remembered_is_bounded(self, writer: InterestWriter) -> None:
        """
        A plugin that makes up new types for ever does not grow by asking.
        """
        reader = InterestReader(writer.fd)
        writer.write(["Loss"])
        for number in range(MAX_ANSWERS * 2 + 1):
            reader.wants(Topic(f"t{number}"))

        assert len(reader._answers) <= MAX_ANSWERS
        assert reader.wants(LOSS)

    def test_an_answer_is_looked_up_once(self, writer: InterestWriter) -> None:
        """
        While nothing changes a question costs neither the page's text nor its patterns.
        """
        reader = InterestReader(writer.fd)
        writer.write(["Loss"])
        reader.wants(LOSS)
        answers = reader._answers
        reader.wants(STEP)
        reader.wants(STEP)

        assert reader._answers is answers
        assert answers == {LOSS: True, STEP: False}


def page(patterns: list[str], times: int) -> bytes:
    """Give a page's bytes after so many writes, the last of these patterns."""
    writer = InterestWriter()
    for _ in range(times):
        writer.write(patterns)
    seen = os.pread(writer.fd, SIZE, 0)
    writer.close()
    return seen


class TestTornPage:
    @given(
        before=st.lists(st.sampled_from(["Step", "Trainer.*", "x" * 30])),
        after=st.lists(st.sampled_from(["Step", "Other", "y" * 30])),
        cuts=st.lists(st.integers(0, 140), max_size=6),
        is_odd=st.booleans(),
    )
    def test_what_is_wanted_before_and_after_is_wanted_meanwhile(
        self, *, before: list[str], after: list[str], cuts: list[int], is_odd: bool
    ) -> None:
        """
        Whatever mixture of two pages is seen, in whatever order: no wanted topic is kept back.
        """
        old, new = page([*before, "Loss"], 1), page(["Loss", *after], 2)
        torn = bytearray(old)
        for number, first in enumerate(sorted(cuts)):
            torn[first:] = (new, old)[number % 2][first:]
        torn[0] |= is_odd
        fd = os.memfd_create("interest")
        os.write(fd, torn)
        reader = InterestReader(fd)

        assert reader.wants(LOSS)
        os.pwrite(fd, page(["Step"], 3), 0)
        assert not reader.wants(LOSS)  # what could not be read was not remembered
        os.close(fd)

    def test_a_node_in_the_middle_of_writing_keeps_nothing_back(self) -> None:
        """
        An odd generation is a page that cannot be relied on, even where its text looks whole.
        """
        fd = os.memfd_create("interest")
        os.truncate(fd, SIZE)
        os.pwrite(fd, struct.pack("=QQQ", 3, 4, zlib.crc32(b"Step", 3)) + b"Step", 0)
        reader = InterestReader(fd)
        assert reader.wants(LOSS)

        os.pwrite(fd, struct.pack("=QQQ", 4, 4, zlib.crc32(b"Step", 4)), 0)
        assert not reader.wants(LOSS)
        os.close(fd)

    def test_a_page_that_moves_while_it_is_read_keeps_nothing_back(
        self, writer: InterestWriter
    ) -> None:
        """
        The generation is looked at before and behind the text.
        """
        reader = InterestReader(writer.fd)
        writer.write(["Step"])

        class Moving:
            """The page's words; the node writes again once the checksum has been read."""

            def __getitem__(self, at: int) -> int:
                word = writer._words[at]
                if at == 2:
                    writer.write(["Loss"])
                return word

        words, reader._words = reader._words, Moving()  # type: ignore[assignment]
        assert reader.wants(LOSS)
        reader._words = words
        assert reader.wants(LOSS)
        assert not reader.wants(STEP)

    def test_while_the_node_writes_nothing_is_kept_back(self, writer: InterestWriter) -> None:
        """
        From the first byte that changes until the last one a reader takes all for wanted.
        """
        reader, answers = InterestReader(writer.fd), list[bool]()

        class Watched:
            """The page; somebody asks whenever it has been written to."""

            def __setitem__(self, at: slice, text: bytes) -> None:
                memory[at] = text
                answers.append(reader.wants(LOSS))

        writer.write(["Step"])
        memory, writer._page = writer._page, Watched()  # type: ignore[assignment]
        writer.write(["Step"])
        writer._page = memory

        assert answers == [True]
        assert not reader.wants(LOSS)


class TestWorkersEnd:
    def test_nobody_but_the_node_can_write(self, writer: InterestWriter) -> None:
        """
        Not by mapping, writing, cutting or lengthening it, nor by punching a hole into it.
        """
        attempts: list[Callable[[], object]] = [
            lambda: mmap.mmap(writer.fd, SIZE),
            lambda: os.pwrite(writer.fd, b"x", 0),
            lambda: os.ftruncate(writer.fd, 0),
            lambda: os.ftruncate(writer.fd, 2 * SIZE),
            lambda: os.posix_fallocate(writer.fd, 0, 2 * SIZE),
            lambda: fallocate(writer.fd, PUNCH_HOLE),
        ]
        for attempt in attempts:
            with pytest.raises(PermissionError):
                attempt()

        assert InterestReader(writer.fd).wants(LOSS)

    def test_opening_it_again_does_not_help(self, writer: InterestWriter) -> None:
        """
        A descriptor opened by way of /proc is as sealed as the one that was given.
        """
        again = os.open(f"/proc/self/fd/{writer.fd}", os.O_RDWR)
        with pytest.raises(PermissionError):
            mmap.mmap(again, SIZE)
        with pytest.raises(PermissionError):
            os.pwrite(again, b"x", 0)
        os.close(again)

    def test_a_mapping_cannot_be_made_writable(self, writer: InterestWriter) -> None:
        """
        What is mapped for reading stays so, and Python refuses to write there at all.
        """
        reader = InterestReader(writer.fd)
        with pytest.raises(TypeError):
            reader._words[0] = 7

        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        address = libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_SHARED, writer.fd, 0)
        made = libc.mprotect(ctypes.c_void_p(address), SIZE, mmap.PROT_READ | mmap.PROT_WRITE)
        assert (made, ctypes.get_errno()) == (-1, errno.EACCES)
        libc.munmap(ctypes.c_void_p(address), SIZE)

    def test_the_seals_cannot_be_changed(self, writer: InterestWriter) -> None:
        """
        A worker cannot seal the page against its own node.
        """
        with pytest.raises(PermissionError):
            fcntl.fcntl(writer.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        writer.write([EVERYTHING])


PUNCH_HOLE = 0x02 | 0x01


def fallocate(fd: int, mode: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(SIZE)):
        raise OSError(ctypes.get_errno(), "fallocate")
