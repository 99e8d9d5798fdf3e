"""Recorders, on real files: a line is whole or absent, whatever the disk does."""

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalProtocolError, UsageError
from protocol.events import PluginEvent
from spiral_host.recording import BrokenRecording, JsonLines, Ring, read_recording
from spiral_host.tagged import MAX_LINE, to_line


def stamped(number: int, data: object = None) -> PluginEvent:
    event = PluginEvent.custom("X", number if data is None else data)
    event.stamp = ("trainer", number, 1000.0 + number)
    return event


LINE = len(to_line(stamped(1)))


def numbers(path: Path) -> list[int]:
    """Give the numbers of a recording's events, in its order."""
    return [event.seq for event in read_recording(path)]


def record(path: Path, *events: PluginEvent) -> None:
    with JsonLines(path) as recorder:
        for event in events:
            recorder(event)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


class TestJsonLines:
    @given(st.lists(st.one_of(st.integers(0, 99), st.text(), st.binary())))
    def test_what_is_recorded_can_be_read(self, said: list[object]) -> None:
        """
        The same events with the same stamps, in the same order, from any number of files.
        """
        events = [stamped(number, data) for number, data in enumerate(said)]
        with TemporaryDirectory() as folder:
            path = Path(folder) / "events.jsonl"
            with JsonLines(path, max_bytes=200, keep=1000) as recorder:
                for event in events:
                    recorder(event)
            read = list(read_recording(path))
        assert [event.to_dict() for event in read] == [event.to_dict() for event in events]

    def test_an_event_is_there_at_once(self, path: Path) -> None:
        """
        Nothing waits in the recorder: another process can read it while it records.
        """
        with JsonLines(path) as recorder:
            for number in range(3):
                recorder(stamped(number))
                assert numbers(path)[-1] == number
            assert (recorder.recorded, recorder.dropped, recorder.error) == (3, 0, None)

    def test_after_close_it_does_nothing(self, path: Path) -> None:
        """
        A callback that is still under way harms nobody.
        """
        recorder = JsonLines(path)
        recorder.close()
        recorder.close()
        recorder(stamped(1))

        assert (path.read_bytes(), recorder.recorded, recorder.dropped) == (b"", 0, 0)

    def test_it_is_the_owners(self, path: Path) -> None:
        """
        What plugins say is nobody else's to read.
        """
        record(path)

        assert path.stat().st_mode & 0o777 == 0o600

    def test_a_recording_is_continued(self, path: Path) -> None:
        """
        What is there stays; a half line that a killed recorder has left does not.
        """
        record(path, stamped(1))
        with path.open("ab") as file:
            file.write(to_line(stamped(2))[:-5])
        record(path, stamped(3))

        assert numbers(path) == [1, 3]

    def test_values_that_cannot_be_written(self, path: Path) -> None:
        """
        The event is counted with the reason; the next one is written.
        """
        with JsonLines(path) as recorder:
            recorder(stamped(1, {1}))
            recorder(stamped(2, object()))
            recorder(stamped(3))

        assert (recorder.dropped, numbers(path)) == (2, [3])
        assert isinstance(recorder.error, LocalProtocolError)
        assert "set" in str(recorder.error)

    @pytest.mark.parametrize(("max_bytes", "keep"), [(0, 1), (1, -1)])
    def test_numbers_that_cannot_be_meant(self, path: Path, max_bytes: int, keep: int) -> None:
        """
        They are refused before there is a file.
        """
        with pytest.raises(UsageError):
            JsonLines(path, max_bytes, keep)
        assert not path.exists()

    @pytest.mark.parametrize(
        "content",
        [b"x", b'{"a": 1}', b'{"a": 1}\n', b"\0", b'{"type": ' + b"x" * 2 * MAX_LINE],
        ids=["text", "json", "lines", "binary", "no lines"],
    )
    def test_another_file_is_left_alone(self, path: Path, content: bytes) -> None:
        """
        What is no recording is neither continued nor cut.
        """
        path.write_bytes(content)
        with pytest.raises(UsageError, match="no recording"):
            JsonLines(path)

        assert path.read_bytes() == content

    def test_two_recorders_of_one_file(self, path: Path) -> None:
        """
        The second is refused; after the first has closed it is not.
        """
        with JsonLines(path), pytest.raises(UsageError, match="records there already"):
            JsonLines(path)
        record(path, stamped(1))

        assert numbers(path) == [1]

    def test_a_file_that_cannot_be_opened(self, tmp_path: Path) -> None:
        """
        Whoever makes the recorder is told at once.
        """
        with pytest.raises(FileNotFoundError):
            JsonLines(tmp_path / "no" / "events.jsonl")
        with pytest.raises(IsADirectoryError):
            JsonLines(tmp_path)


class TestRotation:
    def test_old_files_are_kept_and_the_oldest_deleted(self, path: Path) -> None:
        """
        No file is longer than it may be; what went with the oldest is counted.
        """
        with JsonLines(path, max_bytes=2 * LINE, keep=2) as recorder:
            for number in range(1, 10):
                recorder(stamped(number))

        assert numbers(path) == [5, 6, 7, 8, 9]
        assert (recorder.recorded, recorder.deleted, recorder.dropped) == (9, 4, 0)
        assert sorted(file.name for file in path.parent.iterdir()) == [
            "events.jsonl",
            "events.jsonl.1",
            "events.jsonl.2",
        ]
        assert max(file.stat().st_size for file in path.parent.iterdir()) <= 2 * LINE

    def test_none_are_kept(self, path: Path) -> None:
        """
        With `keep=0` there is one file, begun again and again.
        """
        with JsonLines(path, max_bytes=2 * LINE, keep=0) as recorder:
            for number in range(1, 6):
                recorder(stamped(number))

        assert (numbers(path), recorder.deleted) == ([5], 4)
        assert list(path.parent.iterdir()) == [path]

    def test_an_event_longer_than_a_file(self, path: Path) -> None:
        """
        It has a file of its own rather than none.
        """
        with JsonLines(path, max_bytes=1) as recorder:
            recorder(stamped(1))
            recorder(stamped(2))

        assert numbers(path) == [1, 2]

    def test_a_reader_while_files_move(self, path: Path) -> None:
        """
        Whoever reads meanwhile is given every event that was there, once.
        """
        with JsonLines(path, max_bytes=2 * LINE) as recorder:
            for number in range(1, 5):
                recorder(stamped(number))
            reading = read_recording(path)
            first = next(reading).seq
            for number in range(5, 9):
                recorder(stamped(number))

            assert [first, *(event.seq for event in reading)] == [1, 2, 3, 4]

    def test_a_reader_that_opens_while_files_move(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A file that is put aside between two openings is opened twice and read once.
        """
        real = Path.open
        with JsonLines(path, max_bytes=2 * LINE) as recorder:
            for number in range(1, 5):
                recorder(stamped(number))

            def move(opened: Path, mode: str) -> object:
                file = real(opened, mode)
                if opened == path:
                    recorder(stamped(5))
                return file

            monkeypatch.setattr(Path, "open", move)
            assert numbers(path) == [1, 2, 3, 4]

    def test_a_move_that_fails_is_made_up_for(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Each event that could not be written is counted; no older file is lost by trying again.
        """
        real = Path.replace
        with JsonLines(path, max_bytes=2 * LINE, keep=3) as recorder:
            for number in range(1, 5):
                recorder(stamped(number))

            def fail(source: Path, target: str) -> Path:
                if source == path:
                    raise OSError(errno.EPERM, "not now")
                return real(source, target)

            monkeypatch.setattr(Path, "replace", fail)
            for number in range(5, 9):
                recorder(stamped(number))
            monkeypatch.undo()
            recorder(stamped(9))

        assert (recorder.dropped, recorder.deleted) == (4, 0)
        assert numbers(path.with_name(f"{path.name}.2")) == [1, 2]
        assert numbers(path) == [1, 2, 3, 4, 9]

    def test_a_new_file_that_cannot_be_made(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The old ones stay where they are, however often it is tried.
        """
        real = os.open

        def fail(name: str, *rest: int) -> int:
            if name == str(path):
                raise OSError(errno.ENFILE, "no more files")
            return real(name, *rest)

        with JsonLines(path, max_bytes=2 * LINE, keep=3) as recorder:
            for number in range(1, 5):
                recorder(stamped(number))
            monkeypatch.setattr(os, "open", fail)
            for number in range(5, 15):
                recorder(stamped(number))
            monkeypatch.undo()
            recorder(stamped(15))

        assert recorder.dropped == 10
        assert numbers(path) == [1, 2, 3, 4, 15]


class Disk:
    """Stands before `os.write`; has room for so many bytes, and then takes what fits or nothing."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.write

    def __call__(self, fd: int, line: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self.write(fd, line[: self.room])
        self.room -= taken
        return taken


class TestFullDisk:
    def test_a_full_device(self) -> None:
        """
        Every event is dropped and counted, the reason is kept, nobody is disturbed.
        """
        with JsonLines("/dev/full") as recorder:
            for number in range(5):
                recorder(stamped(number))

        assert (recorder.recorded, recorder.dropped) == (0, 5)
        assert isinstance(recorder.error, OSError)
        assert recorder.error.errno == errno.ENOSPC

    @pytest.mark.parametrize("room", range(2 * LINE + 1))
    def test_a_line_is_whole_or_absent(
        self, path: Path, room: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Wherever the disk is full, what is read is whole; when there is room again it goes on.
        """
        disk = Disk(room)
        monkeypatch.setattr(os, "write", disk)
        with JsonLines(path) as recorder:
            for number in range(1, 5):
                recorder(stamped(number))
            fitted = room // LINE
            assert numbers(path) == [1, 2, 3, 4][:fitted]
            assert recorder.dropped == 4 - fitted
            disk.room = 1000
            recorder(stamped(5))

        assert numbers(path)[fitted:] == [5]

    def test_a_half_line_that_cannot_be_taken_away(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Nothing is written behind it until it could be.
        """
        disk = Disk(LINE + 10)

        def fail(fd: int, size: int) -> None:
            raise OSError(errno.EIO, "not now")

        with JsonLines(path) as recorder, monkeypatch.context() as patch:
            patch.setattr(os, "write", disk)
            patch.setattr(os, "ftruncate", fail)
            recorder(stamped(1))
            recorder(stamped(2))
            disk.room = 1000
            recorder(stamped(3))
            assert recorder.dropped == 2
            patch.undo()
            recorder(stamped(4))

        assert numbers(path) == [1, 4]


class TestReading:
    @pytest.mark.parametrize("cut", range(1, LINE))
    def test_a_recording_cut_in_the_middle(self, path: Path, cut: int) -> None:
        """
        What is whole is given first; then the error names the file, the line and the cure.
        """
        record(path, *map(stamped, range(1, 4)))
        os.truncate(path, 3 * LINE - cut)
        reading = read_recording(path)
        assert [next(reading).seq, next(reading).seq] == [1, 2]
        with pytest.raises(BrokenRecording) as caught:
            next(reading)

        assert (caught.value.path, caught.value.line) == (str(path), 3)
        assert f"{path}: line 3: it is cut in the middle; " in str(caught.value)
        assert "cut the file there" in str(caught.value)

    @pytest.mark.parametrize(
        "line",
        [b"\n", b"{}\n", b"\xff\n", b"x" * MAX_LINE + b"\n"],
        ids=["empty", "no event", "no text", "too long"],
    )
    def test_a_broken_line(self, path: Path, line: bytes) -> None:
        """
        It ends the reading, as it is not known what it was.
        """
        path.write_bytes(to_line(stamped(1)) + line + to_line(stamped(2)))
        reading = read_recording(path)
        assert next(reading).seq == 1
        with pytest.raises(BrokenRecording, match="line 2: it "):
            next(reading)

    def test_an_older_file_is_named(self, path: Path) -> None:
        """
        The line is that of the file in which it is.
        """
        record(path, stamped(1))
        path.rename(f"{path}.1")
        os.truncate(f"{path}.1", LINE - 1)
        record(path, stamped(2))
        with pytest.raises(BrokenRecording, match=r"events.jsonl.1: line 1: "):
            next(read_recording(path))

    def test_nothing(self, path: Path) -> None:
        """
        An empty recording has no events; none at all is an error.
        """
        with pytest.raises(FileNotFoundError):
            numbers(path)
        record(path)
        assert numbers(path) == []


class TestRing:
    def test_the_last_events_are_kept(self) -> None:
        """
        A snapshot is the caller's own; the ring goes on.
        """
        ring = Ring(2)
        assert ring.snapshot() == []
        for number in range(1, 4):
            ring(stamped(number))
        before = ring.snapshot()
        ring(stamped(4))

        assert [event.seq for event in before] == [2, 3]
        assert ([event.seq for event in ring.snapshot()], len(ring)) == ([3, 4], 2)

    def test_one_that_keeps_nothing(self) -> None:
        """
        It cannot be meant.
        """
        with pytest.raises(UsageError, match="at least one event"):
            Ring(0)
