"""The run directory may be removed under a living daemon: it says so, stops in order and leaves."""

import shutil
import signal

from tests.hosts import DEADLINE, Run, Watch, eventually


class TestRemoved:
    def test_the_daemon_notices_stops_its_plugins_and_leaves(self, run: Run) -> None:
        """Within seconds; `on_unload` runs, no process is left, and its status says no."""
        host = run.start("polite", "hanger")
        node = Watch(host.status()["node_pid"])
        shutil.rmtree(run.run_dir)

        assert run.daemon.wait(DEADLINE) == 1
        assert f"{run.run_dir} has been removed or replaced" in run.daemon.last_words()
        assert (run.data_dir / "polite" / "left").exists()
        assert node.has_ended(0)
        assert not run.processes()
        assert not run.run_dir.exists()

    def test_another_daemon_in_its_place_is_not_disturbed(self, run: Run) -> None:
        """The one that leaves removes none of the other's files, and the other's plugins go on."""
        first = run.start("polite")
        left, node = run.daemon, Watch(first.status()["node_pid"])
        first.close()  # or it would come back to whoever serves its path
        daemon = Watch(left.pid)
        daemon.kill(signal.SIGSTOP)  # so that it is the last to act
        run.run_dir.rename(run.run_dir.with_name("moved"))
        second = run.start("polite")
        files = set(run.files())
        daemon.kill(signal.SIGCONT)
        before = second.get("polite")

        assert left.wait(DEADLINE) == 1
        assert node.has_ended(DEADLINE)
        assert files <= set(run.files())
        assert second.get("polite").pid == before.pid
        assert run.connect().get_service("polite").add(1, 2) == 3
        run.kill_daemon()
        run.start_daemon()
        assert run.connect().get("polite").pid == before.pid

    def test_an_embedded_host_is_told(self, run: Run) -> None:
        """Its application hears that there is no daemon any more."""
        host = run.embed("polite")
        worker = host.get("polite").pid
        assert worker is not None
        watch = Watch(worker)
        shutil.rmtree(run.run_dir)

        assert watch.has_ended(DEADLINE)
        assert eventually(lambda: not run.processes())
