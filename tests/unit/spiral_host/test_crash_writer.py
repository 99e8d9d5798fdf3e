import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spiral_host import crash_writer
from spiral_host.crash_files import CrashFiles, all_of, latest
from spiral_host.crash_writer import WAITING, CrashWriter
from spiral_host.crashes import CrashReport
from tests.unit.spiral_host.deaths import death

DEADLINE = 10.0


@pytest.fixture(autouse=True)
def closing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a test that closes looks at what has been written."""
    monkeypatch.setattr(crash_writer, "CLOSE_S", DEADLINE)


@contextmanager
def writing(run_dir: Path, epoch: int = 0) -> Iterator[CrashWriter]:
    """Write as a daemon does, to the end."""
    writer = CrashWriter(run_dir, epoch)
    try:
        yield writer
    finally:
        writer.close()


class Disk:
    """Stands for the disk: answers when it is let, as it is told to."""

    def __init__(self, answer: Callable[[], object] = lambda: None) -> None:
        self.reached = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.written: list[int] = []
        self.answer = answer

    def save(self, report: CrashReport, *, may_be_known: bool) -> None:
        self.reached.release()
        assert self.let.acquire(timeout=DEADLINE)
        self.answer()
        self.written.append(report.incarnation)


class TestWriter:
    def test_what_is_kept_can_be_read_afterwards(self, tmp_path: Path) -> None:
        """
        Closing waits for the last report; its clocks and versions are filled in.
        """
        with writing(tmp_path) as writer:
            writer.keep(death())
            writer.keep(death(plugin_id="beta"))

        found = latest(tmp_path, "alpha")
        assert found is not None
        assert latest(tmp_path, "beta") is not None
        assert set(found.versions) == {"plugin", "python", "protocol", "spiral-host"}
        assert found.wall > found.monotonic > 0
        assert (writer.failure, writer.lost) == ("", 0)

    @pytest.mark.parametrize(("epoch", "kept"), [(1, 2), (2, 1)])
    def test_a_death_of_an_earlier_daemons_worker(
        self, tmp_path: Path, epoch: int, kept: int
    ) -> None:
        """
        It may have been written before that daemon died; its own workers' deaths are news.
        """
        with writing(tmp_path, epoch) as writer:
            for _ in range(2):
                writer.keep(death(incarnation=(1 << 32) | 5))

        assert len(list(all_of(tmp_path, "alpha"))) == kept

    def test_a_disk_that_is_full_is_told(self, tmp_path: Path) -> None:
        """
        Why and how many stays to be asked for, until one can be written again.
        """
        run_dir = tmp_path / "run"
        with writing(run_dir) as writer:
            writer.keep(death())
        assert "No such file or directory" in writer.failure
        assert writer.lost == 1

    @pytest.mark.parametrize(
        ("outcomes", "failure"),
        [
            ([OSError(28, "No space left on device")], "No space left on device"),
            ([ValueError("odd")], "a bug of ours: ValueError('odd'); please report it"),
            ([OSError(28, "No space left on device"), None], ""),
        ],
        ids=["a full disk", "a bug", "room again"],
    )
    def test_one_lost_report_is_not_the_last(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        outcomes: list[Exception | None],
        failure: str,
    ) -> None:
        """
        After a failure the next report is tried like the first; the lost one stays counted.
        """

        def answer() -> None:
            outcome = outcomes.pop(0)
            if outcome is not None:
                raise outcome

        disk = Disk(answer)
        monkeypatch.setattr(CrashFiles, "save", disk.save)
        expected = len(outcomes) - 1
        with writing(tmp_path) as writer:
            for _ in tuple(outcomes):
                writer.keep(death())
                disk.let.release()

        assert writer.failure.endswith(failure)
        assert bool(writer.failure) == bool(failure)
        assert (writer.lost, len(disk.written)) == (1, expected)

    def test_a_disk_that_never_answers_stops_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        What waits has a bound; what is beyond it is lost and told, and closing does not wait on.
        """
        disk = Disk()
        monkeypatch.setattr(CrashFiles, "save", disk.save)
        monkeypatch.setattr(crash_writer, "CLOSE_S", 0.01)
        writer = CrashWriter(tmp_path, 0)
        writer.keep(death())
        assert disk.reached.acquire(timeout=DEADLINE)

        for _ in range(WAITING + 5):
            writer.keep(death())
        writer.close()

        assert (writer.failure, writer.lost) == ("the disk is too slow", 5)
        assert disk.written == []
        for _ in range(WAITING + 1):
            disk.let.release()
        writer._thread.join(DEADLINE)
        assert len(disk.written) == WAITING + 1
