"""Restart policies, dependents, hangs and quarantine of real plugins, as their manifests say."""

import signal
from pathlib import Path

import pytest

from spiral_host import Host, PluginEvent, ServiceUnavailable, WorkerLost
from tests.hosts import DEADLINE, HANGS, Run, Watch, all_ready, eventually, kill

CODE = '''
import os, time

from plugin_worker import Plugin, PluginMetadata


class Service:
    """What a test does to its plugin."""

    def pid(self):
        return os.getpid()

    def leave(self, status):
        os._exit(status)


class Doer(Plugin):
    def metadata(self):
        return PluginMetadata({name!r}, "1.0.0")

    def on_load(self, ctx):
        ctx.register_service({name!r}, Service())
        {on_load}

    def on_event(self, event, ctx):
        time.sleep(3600)

    def on_unload(self, ctx):
        pass
'''

UNHEARD = "NobodyPublishesThis"


def write(
    folder: Path,
    name: str,
    supervision: str = "",
    *,
    needs: str = "",
    on_load: str = "pass",
    events: str = UNHEARD,
) -> Path:
    """Write a plugin with this table `[supervision]`."""
    where = folder / name
    where.mkdir(exist_ok=True)
    (where / f"{name}.py").write_text(CODE.format(name=name, on_load=on_load))
    dependencies = f'[plugin.dependencies]\n{needs} = ">=1.0"\n' if needs else ""
    (where / "plugin.toml").write_text(
        f'[plugin]\nid = "{name}"\nversion = "1.0.0"\nentry = "{name}:Doer"\n'
        f'events = ["{events}"]\n{dependencies}[supervision]\n{supervision}\n'
    )
    return where


def state(host: Host, name: str) -> str:
    return host.get(name).state


def services_told(host: Host) -> list[str]:
    """Subscribe to what is said of services; give the list that fills."""
    told: list[str] = []
    for kind in ("ServiceUp", "ServiceDown"):
        host.subscribe(kind, lambda e: told.append(f"{e.type} {e.fields()['service']}"))
    return told


class TestRestart:
    @pytest.mark.parametrize(
        ("restart", "status", "after"),
        [
            ("permanent", 0, "ready"),
            ("transient", 0, "stopped"),
            ("transient", 3, "ready"),
            ("temporary", 3, "stopped"),
        ],
    )
    def test_who_leaves_comes_back_as_its_manifest_says(
        self, run: Run, tmp_path: Path, restart: str, status: int, after: str
    ) -> None:
        """Permanent always, transient unless all was well, temporary never; a person always can."""
        host = run.embed()
        assert all_ready(host.load(write(tmp_path, "doer", f'restart = "{restart}"')))
        stub = host.get_service("doer")
        before = stub.pid()
        with pytest.raises(WorkerLost):
            stub.leave(status)
        eventually(lambda: state(host, "doer") == after and host.get("doer").pid != before)
        if after == "stopped":
            assert f"its restart is {restart}" in host.get("doer").reason
            with pytest.raises(ServiceUnavailable, match="stopped"):
                stub.pid()
        assert host.restart("doer").ok
        assert stub.pid() != before

    def test_who_has_left_for_good_is_not_started_by_the_next_daemon(
        self, run: Run, tmp_path: Path
    ) -> None:
        """A daemon that takes over knows what its predecessor knew."""
        host = run.start()
        assert all_ready(host.load(write(tmp_path, "doer", 'restart = "temporary"')))
        with pytest.raises(WorkerLost):
            host.get_service("doer").leave(3)
        eventually(lambda: state(host, "doer") == "stopped")
        run.kill_daemon()
        run.start_daemon()
        again = run.connect()

        assert state(again, "doer") == "stopped"
        assert "exit status 3" in again.get("doer").reason

    def test_changed_code_ends_quarantine(self, run: Run, tmp_path: Path) -> None:
        """A plugin that was broken is tried again when its author has saved it."""
        host = run.embed()
        (result,) = host.load(write(tmp_path, "doer", on_load="raise ValueError('no')"))
        assert result.state == "quarantined"
        write(tmp_path, "doer")

        eventually(lambda: state(host, "doer") == "ready")
        assert host.get_service("doer").pid()

    def test_a_crash_loop_starts_as_often_as_its_budget_says(
        self, run: Run, tmp_path: Path
    ) -> None:
        """One start and two restarts, then quarantine."""
        starts = "open(ctx.data_dir / 'starts', 'a').write('x'); os.kill(os.getpid(), 9)"
        host = run.embed()
        (result,) = host.load(write(tmp_path, "doer", "crashes = 2", on_load=starts))

        assert result.state == "quarantined"
        assert (run.data_dir / "doer" / "starts").read_text() == "xxx"
        assert host.get("doer").restarts == 2


class TestDependents:
    def test_services_are_announced(self, run: Run, tmp_path: Path) -> None:
        """ServiceDown when a provider dies, ServiceUp when it is back."""
        host = run.embed()
        told = services_told(host)
        assert all_ready(host.load(write(tmp_path, "base")))
        eventually(lambda: told == ["ServiceUp base"])
        kill(host.get_service("base").pid())

        eventually(lambda: told == ["ServiceUp base", "ServiceDown base", "ServiceUp base"])

    def test_who_is_blocked_keeps_its_process(self, run: Run, tmp_path: Path) -> None:
        """Nobody new is sent to it while its provider is away; then it goes on in its life."""
        host = run.embed()
        blocked = '[supervision.providers]\nbase = "block"'
        held, hold = "(ctx.data_dir / 'hold').exists", run.data_dir / "base" / "hold"
        gate = f"[time.sleep(0.005) for _ in iter({held}, False)]"
        assert all_ready(host.load(write(tmp_path, "base", on_load=gate)))
        assert all_ready(host.load(write(tmp_path, "user", blocked, needs="base")))
        told, pid = services_told(host), host.get("user").pid
        hold.touch()
        kill(host.get_service("base").pid())

        eventually(lambda: state(host, "user") == "blocked")
        assert "its dependency base is" in host.get("user").reason
        hold.unlink()
        eventually(lambda: state(host, "user") == "ready")
        assert host.get("user").pid == pid
        assert host.get_service("user").pid() == pid
        eventually(lambda: {"ServiceDown user", "ServiceUp user"} <= set(told))

    @pytest.mark.parametrize("planned", [True, False])
    def test_who_is_restarted_with_its_provider(
        self, run: Run, tmp_path: Path, *, planned: bool
    ) -> None:
        """It leaves too, planned or not, and starts behind it; that costs no budget."""
        host = run.embed()
        follows = 'crashes = 0\n[supervision.providers]\nbase = "restart"'
        assert all_ready(host.load(write(tmp_path, "base")))
        assert all_ready(host.load(write(tmp_path, "user", follows, needs="base")))
        order: list[object] = []
        host.subscribe("PluginLoaded", lambda e: order.append(e.fields()["plugin_id"]))
        base, user = host.get("base").pid, host.get("user").pid
        assert base is not None
        if planned:
            assert host.restart("base").ok
        else:
            kill(base)

        eventually(lambda: order == ["base", "user"])
        assert host.get("user").pid not in {None, user}
        assert (state(host, "user"), host.get("user").restarts) == ("ready", 0)

    def test_who_only_asked_to_be_told_goes_on(self, run: Run, tmp_path: Path) -> None:
        """Without a word in its manifest a dependent is left alone."""
        host = run.embed()
        assert all_ready(host.load(write(tmp_path, "base")))
        assert all_ready(host.load(write(tmp_path, "user", needs="base")))
        base, user = host.get("base").pid, host.get("user").pid
        assert base is not None
        kill(base)
        eventually(lambda: host.get("base").pid not in {None, base})

        assert (state(host, "user"), host.get("user").pid) == ("ready", user)


class TestHang:
    def test_a_hung_plugin_is_replaced_with_its_stacks_in_the_report(
        self, run: Run, tmp_path: Path
    ) -> None:
        """A callback that never returns: suspect, then ended, then back; the report says where."""
        host = run.embed()
        assert all_ready(host.load(write(tmp_path, "doer", HANGS, events="Sleep")))
        before = host.get("doer").pid
        host.publish(PluginEvent.custom("Sleep", None))
        eventually(
            lambda: state(host, "doer") == "ready" and host.get("doer").pid != before,
            2 * DEADLINE,
        )
        report = eventually(lambda: host.report("doer"))

        assert report is not None
        assert (report.kind, report.state) == ("hang", "suspect")
        assert "on_event" in report.stacks
        assert host.get("doer").restarts == 1

    def test_a_stopped_process_is_replaced(self, run: Run, tmp_path: Path) -> None:
        """SIGSTOP is a hang of everything; it is ended without its stacks."""
        host = run.embed()
        assert all_ready(host.load(write(tmp_path, "doer", "hang_s = 0.5")))
        before = host.get("doer").pid
        assert before is not None
        Watch(before).kill(signal.SIGSTOP)

        eventually(lambda: state(host, "doer") == "ready" and host.get("doer").pid != before)

    def test_one_that_wakes_up_in_time_is_left_alone(self, run: Run, tmp_path: Path) -> None:
        """A suspect that answers again is ready again, in the same life."""
        host = run.embed()
        assert all_ready(host.load(write(tmp_path, "doer", "hang_s = 60")))
        before = host.get("doer").pid
        assert before is not None
        watch = Watch(before)
        watch.kill(signal.SIGSTOP)
        eventually(lambda: state(host, "doer") == "suspect")
        watch.kill(signal.SIGCONT)

        eventually(lambda: state(host, "doer") == "ready")
        assert host.get("doer").pid == before
