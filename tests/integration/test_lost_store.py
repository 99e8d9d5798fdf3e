"""A store that cannot be read is moved aside: its plugins are forgotten, supervision goes on."""

import psutil

from tests.hosts import DEADLINE, Run, Watch, all_ready, eventually, plugin


def spoil_store(run: Run) -> None:
    """Overwrite the file, and the log that it could be made whole from."""
    for name in ("state.db", "state.db-wal"):
        (run.run_dir / name).write_bytes(b"no store at all" * 1000)


class TestLostStore:
    def test_the_next_daemon_starts_with_no_plugins_and_says_why(self, run: Run) -> None:
        """What ran is ended because nobody wants it any more, and the same plugin can be loaded."""
        host = run.start("polite")
        before = host.get("polite")
        assert before.pid is not None
        worker, node = Watch(before.pid), host.status()["node_pid"]
        run.kill_daemon()
        spoil_store(run)

        run.start_daemon()
        host = run.connect()

        assert worker.has_ended(DEADLINE)
        assert host.list_plugins() == []
        assert "cannot be read as a store" in (run.run_dir / "logs" / "daemon.log").read_text()
        assert all_ready(host.load([plugin("polite")]))
        assert host.get_service("polite").add(1, 2) == 3
        assert host.get("polite").incarnation > before.incarnation
        assert host.status()["node_pid"] == node

    def test_nothing_else_is_needed_when_the_node_is_gone_too(self, run: Run) -> None:
        """A daemon that finds neither store nor node starts a node."""
        host = run.start("polite")
        node = psutil.Process(host.status()["node_pid"])
        run.kill_daemon()
        node.kill()
        spoil_store(run)

        run.start_daemon()
        host = run.connect()

        assert host.list_plugins() == []
        assert eventually(lambda: host.status()["node_pid"]) != node.pid
