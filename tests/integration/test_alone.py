"""A node that no daemon comes back for stops its plugins in order and leaves."""

from typing import Final

from tests.hosts import DEADLINE, Run, Watch, eventually

PATIENCE: Final = 8.0
"""Seconds: more than a daemon takes to start on a busy machine."""

IMPATIENCE: Final = 3.0
"""Seconds: more than a daemon that is there takes to find its node, on a busy machine too."""


class TestAlone:
    def test_plugins_stop_in_order_and_nothing_is_left(self, run: Run) -> None:
        """`on_unload` has run; node, zygote and workers are gone."""
        run.start_daemon(alone_s=IMPATIENCE)
        host = run.connect()
        run.load(host, "polite", "hanger")
        node = Watch(host.status()["node_pid"])
        run.kill_daemon()

        assert node.has_ended(DEADLINE)
        assert (run.data_dir / "polite" / "left").exists()
        assert not run.processes()
        log = (run.run_dir / "logs" / "node.log").read_text()
        assert f"no daemon for {IMPATIENCE:g} s: every plugin stops, then this node ends" in log
        self.check_next_daemon(run)

    def check_next_daemon(self, run: Run) -> None:
        """A daemon that comes after all starts everything again."""
        run.start_daemon()
        host = run.connect()

        assert eventually(lambda: host.get("polite").state == "ready")
        assert host.get_service("polite").add(1, 2) == 3

    def test_a_daemon_that_comes_in_time_finds_everything(self, run: Run) -> None:
        """The node stays for as long as there is a daemon, however short its patience."""
        run.start_daemon(alone_s=PATIENCE)
        host = run.connect()
        run.load(host, "polite")
        before = host.get("polite").pid
        assert before is not None
        watch = Watch(before)
        run.kill_daemon()
        run.start_daemon(alone_s=PATIENCE)
        host = run.connect()

        assert not watch.has_ended(PATIENCE + 0.5)
        assert host.get("polite").pid == before
