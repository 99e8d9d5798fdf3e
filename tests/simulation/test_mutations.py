"""The simulation sees what it is there for: each bug that is put in is found within a few seeds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from protocol.errors import UsageError
from protocol.messages import Answer, ExitSeen, RestartPlugin
from spiral_host import lifecycle, store
from spiral_host.code_watch import CodeWatch
from spiral_host.daemon import Daemon
from spiral_host.lifecycle import Lifecycle, State
from spiral_host.orders import Orders
from spiral_host.policy import CrashBudget, Policy, Restart
from spiral_host.questions import Asker
from spiral_host.registry import Plugin, Registry
from spiral_host.supervisor import Supervisor
from tests.simulation.judge import Violation
from tests.simulation.world import World, live

ENOUGH: Final = 120
"""Seeds within which every one of these bugs shows, most within three. Each world costs processor
time, of which a busy machine has little: what shows late is looked for from a later seed on."""

Break = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, tuple[Break, str, int]] = {}


def bug(finding: str, first: int = 0) -> Callable[[Break], Break]:
    """Add a bug, what is said when it is found, and the first seed to try."""

    def add(put_in: Break) -> Break:
        BUGS[put_in.__name__] = (put_in, finding, first)
        return put_in

    return add


@bug("two workers of . live")
def living_workers_are_not_adopted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "adopt", lambda self, reports: [])


@bug("there live|said to be ready|two workers")
def a_plugin_is_forgotten_before_its_worker_is_gone(patch: pytest.MonkeyPatch) -> None:
    def stop(self: Supervisor, plugin_id: str) -> None:
        self._forget(self._registry.plugins[plugin_id])
        self.advance()

    patch.setattr(Supervisor, "stop", stop)


@bug("LifecycleError: StopAsked while starting")
def a_transition_is_missing(patch: pytest.MonkeyPatch) -> None:
    gone = (State.STARTING, lifecycle.StopAsked)
    others = {key: ways for key, ways in lifecycle.TRANSITIONS.items() if key != gone}
    patch.setattr(lifecycle, "TRANSITIONS", others)


@bug("is quarantined after . deaths")
def crashes_weigh_double(patch: pytest.MonkeyPatch) -> None:
    crashed = CrashBudget.crashed

    def twice(self: CrashBudget, policy: Policy, now: float, up_s: float) -> bool:
        crashed(self, policy, now, up_s)
        return crashed(self, policy, now, 0.0)

    patch.setattr(CrashBudget, "crashed", twice)


@bug("is started before ., which it needs")
def nothing_hinders(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Registry, "hindrance", lambda self, plugin: None)


@bug("is unloaded before ., which needs it")
def dependents_are_not_seen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Registry, "dependents", lambda self, plugin_id: [])


@bug("a person's restart is refused")
def a_restart_is_refused(patch: pytest.MonkeyPatch) -> None:
    restart = Orders._restart

    def refuse(self: Orders, asker: Asker, order: RestartPlugin) -> None:
        plugin = self._registry.plugins.get(order.plugin_id)
        if plugin is not None and plugin.state is State.QUARANTINED:
            raise UsageError("it is in quarantine")
        restart(self, asker, order)

    patch.setattr(Orders, "_restart", refuse)


@bug("was not restarted")
def a_restart_does_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "restart", lambda self, plugin_id, manifest=None: None)


@bug("is answered twice")
def an_answer_is_given_twice(patch: pytest.MonkeyPatch) -> None:
    initialize = Orders._initialize

    def twice(self: Orders, asker: Asker, order: Any) -> None:  # noqa: ANN401
        def reply(answer: object) -> None:
            assert isinstance(answer, Answer)
            asker.reply(answer)
            asker.reply(answer)

        initialize(self, Asker(asker.incarnation, asker.name, reply, asker.permissions), order)

    patch.setattr(Orders, "_initialize", twice)


@bug("not answered")
def nobody_looks_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Orders, "look_again", lambda self: None)


@bug("is stopped, and nobody has asked for it|is answered twice")
def what_was_ordered_is_not_written_down(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store, "begin", lambda request, under_way: [])


@bug("not answered|is backoff|is starting")
def no_deadline_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "_arm", lambda self: None)


@bug("exits are not seen")
def exits_are_not_acknowledged(patch: pytest.MonkeyPatch) -> None:
    tell_node = Daemon.tell_node

    def forget(self: Daemon, message: Any) -> None:  # noqa: ANN401
        if not isinstance(message, ExitSeen):
            tell_node(self, message)

    patch.setattr(Daemon, "tell_node", forget)


@bug("the store wants|not answered")
def what_is_wanted_stays_on_disk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store, "forget", store.let_go)


@bug("is blocked and has what it needs|not answered|no time passes")
def a_blocked_plugin_stays_so(patch: pytest.MonkeyPatch) -> None:
    try_start = Supervisor._try_start

    def once(self: Supervisor, plugin: Plugin) -> None:
        if plugin.state is not State.BLOCKED:
            try_start(self, plugin)

    patch.setattr(Supervisor, "_try_start", once)


@bug("no time passes")
def nobody_insists(patch: pytest.MonkeyPatch) -> None:
    expire = Lifecycle.expire

    def wait(self: Lifecycle, now: float) -> Any:  # noqa: ANN401
        return [] if self.state is State.DRAINING else expire(self, now)

    patch.setattr(Lifecycle, "expire", wait)


@bug("said to be ready and is not", first=100)
def silence_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "silent", lambda self, incarnation, why: None)


@bug("is temporary, and started")
def every_plugin_is_permanent(patch: pytest.MonkeyPatch) -> None:
    fell = Lifecycle._fell

    def permanent(self: Lifecycle, *args: Any) -> None:  # noqa: ANN401
        self.policy = replace(self.policy, restart=Restart.PERMANENT)
        fell(self, *args)

    patch.setattr(Lifecycle, "_fell", permanent)


@bug("is quarantined for code that is there no more")
def nobody_looks_at_code(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CodeWatch, "look", lambda self: None)


@bug("1 nodes are left")
def the_daemon_leaves_before_the_node(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Daemon, "_leave", lambda self: setattr(self, "_over", True))


@pytest.mark.parametrize("name", sorted(BUGS))
def test_a_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world in which it happens fails, and says what is wrong."""
    put_in, finding, first = BUGS[name]
    put_in(monkeypatch)
    with pytest.raises(Violation, match=finding):
        _live_all(range(first, first + ENOUGH))


def _live_all(seeds: range, course: Callable[[World], None] = World.live) -> None:
    for seed in seeds:
        live(seed, course)


@pytest.mark.parametrize("threshold", [2.5, 6.5])
def test_a_wrong_budget_is_found(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash loop that is started too seldom or too often fails its world."""
    crashed = CrashBudget.crashed

    def other(self: CrashBudget, policy: Policy, now: float, up_s: float) -> bool:
        return crashed(self, replace(policy, threshold=threshold), now, up_s)

    monkeypatch.setattr(CrashBudget, "crashed", other)
    with pytest.raises(Violation, match="deaths|spawned"):
        _live_all(range(ENOUGH), World.loop_and_die)


def test_a_stop_without_a_budget_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that ignore everything, one behind the other, take longer than they may."""
    monkeypatch.setattr(Supervisor, "stop_in_time", lambda self: None)
    with pytest.raises(Violation, match="not stopped in"):
        live(0, World.stop_the_stubborn)
