from pathlib import Path
from socket import AF_UNIX, socket

import pytest

from protocol.errors import UsageError
from spiral_host.rundir import (
    CONTROL,
    CRASHES,
    DAEMON_LOG,
    LOCK,
    LOGS,
    NODE,
    STORE,
    RunDir,
    RunDirTaken,
    remove_unserved,
)


class TestRunDir:
    def test_it_is_made_for_us_alone(self, tmp_path: Path) -> None:
        """
        A run directory is 0700, its parents are made with it, and it names its sockets.
        """
        run = RunDir(tmp_path / "deep" / "run")

        assert run.path.stat().st_mode & 0o777 == 0o700
        assert run.socket(CONTROL) == f"ipc://{run.path}/control.sock"
        run.remove()

    def test_one_daemon_lives_there(self, tmp_path: Path) -> None:
        """
        A second daemon is refused while the first one holds it, and let in afterwards.
        """
        path = tmp_path / "run"
        first = RunDir(path)
        with pytest.raises(RunDirTaken, match="already serves"):
            RunDir(path)
        first.remove()

        RunDir(path).remove()

    def test_nothing_is_left_of_a_run(self, tmp_path: Path) -> None:
        """
        Sockets, store, logs and empty data folders go, and the directory with them.
        """
        run = RunDir(tmp_path / "run")
        for name in (CONTROL, NODE, STORE, f"{STORE}-wal"):
            (run.path / name).touch()
        (run.path / LOGS).mkdir()
        (run.path / LOGS / "a.log").touch()
        (run.path / "data" / "a").mkdir(parents=True)

        run.remove()

        assert not run.path.exists()

    def test_what_is_not_ours_stays(self, tmp_path: Path) -> None:
        """
        A plugin's data and a file of the operator's outlive the run.
        """
        run = RunDir(tmp_path / "run")
        (run.path / "data" / "a").mkdir(parents=True)
        (run.path / "data" / "a" / "model.bin").touch()
        (run.path / "data" / "b").mkdir()
        (run.path / "notes").touch()

        run.remove()

        left = {str(path.relative_to(run.path)) for path in run.path.rglob("*")}
        assert left == {"data", "data/a", "data/a/model.bin", "notes"}

    def test_crash_reports_outlive_the_run(self, tmp_path: Path) -> None:
        """
        They are what the directory stays for; folders in which none is left do not keep it.
        """
        run = RunDir(tmp_path / "run")
        (run.path / CRASHES / "a").mkdir(parents=True)
        report = run.path / CRASHES / "b" / "00000001-1.json"
        report.parent.mkdir()
        report.touch()

        run.remove()

        assert [path for path in run.path.rglob("*") if path.is_file()] == [report]
        assert not (run.path / CRASHES / "a").exists()
        again = RunDir(run.path)
        report.unlink()
        again.remove()
        assert not run.path.exists()

    def test_a_killed_daemons_sockets_are_cleared(self, tmp_path: Path) -> None:
        """
        What would keep us from binding goes; the node's socket is the node's.
        """
        run = RunDir(tmp_path / "run")
        (run.path / CONTROL).touch()
        (run.path / NODE).touch()

        run.clear_sockets()

        assert not (run.path / CONTROL).exists()
        assert (run.path / NODE).exists()
        run.remove()

    def test_doors_that_are_shut_let_nobody_in_until_they_are_opened(self, tmp_path: Path) -> None:
        """
        The sockets stay what they are; whoever is connected does not notice.
        """
        run = RunDir(tmp_path / "run")
        with socket(AF_UNIX) as door, socket(AF_UNIX) as early, socket(AF_UNIX) as late:
            door.bind(str(run.path / CONTROL))
            door.listen()
            early.connect(str(run.path / CONTROL))
            run.shut_doors()
            run.shut_doors()
            with pytest.raises(FileNotFoundError):
                late.connect(str(run.path / CONTROL))
            run.open_doors()
            late.connect(str(run.path / CONTROL))
        run.shut_doors()
        run.remove()

        assert not run.path.exists()

    def test_it_knows_when_another_has_taken_its_place(self, tmp_path: Path) -> None:
        """
        Removed, moved away or replaced, it is ours no more.
        """
        path = tmp_path / "run"
        run = RunDir(path)
        assert run.is_ours
        path.rename(tmp_path / "away")
        assert not run.is_ours
        other = RunDir(path)

        assert not run.is_ours
        assert other.is_ours
        other.remove()

    def test_a_directory_that_is_open_to_others_is_refused(self, tmp_path: Path) -> None:
        """
        Whoever could come in could take the sockets' places.
        """
        path = tmp_path / "run"
        path.mkdir(mode=0o755)

        with pytest.raises(UsageError, match="chmod 700"):
            RunDir(path)

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_what_is_no_directory_is_refused(self, tmp_path: Path, kind: str) -> None:
        """
        Neither a file nor a link, wherever it leads, is a run directory.
        """
        path = tmp_path / "run"
        if kind == "file":
            path.touch()
        else:
            path.symlink_to(tmp_path)

        with pytest.raises(UsageError, match="is no directory"):
            RunDir(path)

    def test_what_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        """
        A path below a file says why nothing can be made there.
        """
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="cannot be made"):
            RunDir(tmp_path / "file" / "run")


class TestUnserved:
    @pytest.fixture
    def made(self, tmp_path: Path) -> Path:
        """What is made before a daemon starts."""
        path = tmp_path / "run"
        (path / LOGS).mkdir(parents=True)
        (path / LOGS / DAEMON_LOG).write_text("no")
        return path

    def test_one_in_which_no_daemon_has_served_goes(self, made: Path) -> None:
        remove_unserved(made)
        assert not made.exists()
        remove_unserved(made)

    @pytest.mark.parametrize("name", [LOCK, STORE, f"{LOGS}/greeter.log", CRASHES])
    def test_what_a_daemon_has_left_stays(self, made: Path, name: str) -> None:
        """
        One that was killed may be taken over, one that lives serves on.
        """
        (made / name).touch()
        before = sorted(made.rglob("*"))
        remove_unserved(made)
        assert sorted(made.rglob("*")) == before
