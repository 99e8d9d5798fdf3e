import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiral_host.lifecycle import (
    TRANSITIONS,
    Action,
    Block,
    Broke,
    CodeChanged,
    Event,
    Exited,
    Heard,
    Kill,
    Late,
    Lifecycle,
    LifecycleError,
    Loaded,
    ProviderLeft,
    RestartAsked,
    SendStop,
    Silent,
    Spawn,
    StartAsked,
    State,
    StopAsked,
    Terminate,
)
from spiral_host.policy import MISFORTUNES, Memory, Policy, Restart

CRASH = Exited("SIGSEGV")
LONG = Policy(half_life=1e9)
WITH_WORKER = {State.STARTING, State.READY, State.SUSPECT, State.DRAINING, State.STOPPING}
WAITING = {State.STARTING, State.SUSPECT, State.DRAINING, State.STOPPING, State.BACKOFF}
OBSERVED = [Loaded(), Broke("on_load raised", "Traceback"), CRASH]

ANYTHING = [
    *OBSERVED,
    Exited("exit status 0", is_normal=True),
    Exited("the node was lost", is_excused=True),
    StartAsked(),
    Block("base is away"),
    Silent("no pong"),
    Heard(),
    StopAsked(),
    RestartAsked(),
    ProviderLeft(),
    CodeChanged(),
    Late(),
]


def ready(policy: Policy = LONG) -> Lifecycle:
    """A plugin that has loaded."""
    plugin = Lifecycle(policy)
    plugin.handle(StartAsked(), now=0.0)
    plugin.handle(Loaded(), now=0.0)
    return plugin


def stands(plugin: Lifecycle) -> tuple[State, float | None, int]:
    """Where it stands."""
    return plugin.state, plugin.deadline, plugin.restarts


def crash(plugin: Lifecycle, now: float) -> None:
    """Crash, and start again as soon as that is allowed."""
    plugin.handle(CRASH, now)
    if plugin.deadline is not None:
        start_again(plugin)


def start_again(plugin: Lifecycle) -> list[Action]:
    """Let the backoff pass; what it depends on is ready."""
    assert plugin.deadline is not None
    now = plugin.deadline
    assert plugin.expire(now) == []
    assert plugin.state is State.DECLARED
    return plugin.handle(StartAsked(), now)


class TestStart:
    def test_a_plugin_starts_and_is_ready(self) -> None:
        """
        A start spawns a worker with a deadline, and loading ends it.
        """
        plugin = Lifecycle(Policy(start=60.0))

        assert plugin.handle(StartAsked(), now=10.0) == [Spawn()]
        assert plugin.deadline == 70.0
        assert plugin.handle(Loaded(), now=11.0) == []
        assert stands(plugin) == (State.READY, None, 0)

    def test_a_start_that_takes_too_long_is_ended(self) -> None:
        """
        A worker that does not load in time is killed, again and again until it is gone.
        """
        plugin = Lifecycle(Policy(start=60.0, terminate=5.0))
        plugin.handle(StartAsked(), now=0.0)

        assert plugin.expire(now=59.9) == []
        assert plugin.expire(now=60.0) == [Kill("start timeout")]
        assert plugin.expire(now=65.0) == [Kill("start timeout")]
        assert plugin.state is State.STARTING

    def test_a_blocked_plugin_says_why_and_starts_later(self) -> None:
        """
        What it waits for is its reason until it starts.
        """
        plugin = Lifecycle(Policy())

        assert plugin.handle(Block("needs base"), now=0.0) == []
        assert (plugin.state, plugin.reason) == (State.BLOCKED, "needs base")
        assert plugin.handle(StartAsked(), now=1.0) == [Spawn()]
        assert plugin.reason == ""

    def test_a_broken_plugin_is_not_tried_again(self) -> None:
        """
        Code that raised once will raise again: quarantine, with the author's traceback.
        """
        plugin = Lifecycle(Policy())
        plugin.handle(StartAsked(), now=0.0)
        plugin.handle(Broke("on_load raised", "Traceback"), now=0.0)

        assert plugin.handle(CRASH, now=1.0) == []
        assert plugin.state is State.QUARANTINED
        assert (plugin.reason, plugin.traceback) == ("on_load raised", "Traceback")
        assert plugin.deadline is None

    def test_a_living_worker_is_adopted(self) -> None:
        """
        A worker that an earlier daemon started has the time of any start to say that it loaded.
        """
        plugin = Lifecycle(Policy(start=60.0), Memory(restarts=3))
        plugin.adopt(now=5.0)

        assert stands(plugin) == (State.STARTING, 65.0, 3)
        plugin.handle(Loaded(), now=6.0)
        assert plugin.state is State.READY


class TestCrash:
    def test_the_first_crash_restarts_at_once_and_the_next_waits(self) -> None:
        """
        A first crash costs no wait; one soon after it waits for the backoff, and not less.
        """
        plugin = ready(Policy(backoff=0.5, half_life=1e9))

        assert plugin.handle(CRASH, now=20.0) == []
        assert (plugin.state, plugin.deadline) == (State.BACKOFF, 20.0)
        assert start_again(plugin) == [Spawn()]
        plugin.handle(CRASH, now=21.0)
        assert plugin.deadline == pytest.approx(21.5)
        assert plugin.expire(now=21.4) == []
        assert start_again(plugin) == [Spawn()]
        assert plugin.restarts == 2

    def test_no_wait_is_longer_than_the_longest(self) -> None:
        """
        Backoff doubles up to its limit.
        """
        plugin = ready(Policy(backoff=10.0, backoff_max=15.0, half_life=1e9))
        for now in (0.0, 100.0, 200.0):
            crash(plugin, now)
        plugin.handle(CRASH, now=300.0)

        assert plugin.deadline == 315.0

    def test_a_crash_loop_is_quarantined(self) -> None:
        """
        Crashing faster than the budget decays ends in quarantine, with no deadline left.
        """
        plugin = ready(Policy(threshold=2.5, half_life=1e9))
        crash(plugin, 1.0)
        crash(plugin, 2.0)

        assert plugin.handle(CRASH, now=3.0) == []
        assert (plugin.state, plugin.deadline) == (State.QUARANTINED, None)
        assert plugin.reason == "crashed 3.0 times lately, last: SIGSEGV"
        assert plugin.expire(now=1e9) == []

    def test_rare_crashes_are_forgiven(self) -> None:
        """
        One crash an hour, for ever, never reaches quarantine.
        """
        plugin = ready(Policy(threshold=2.0, half_life=30.0))
        for hour in range(1, 100):
            crash(plugin, 3600.0 * hour)
            plugin.handle(Loaded(), now=3600.0 * hour + 10.0)

        assert plugin.state is State.READY

    def test_only_being_up_heals(self) -> None:
        """
        A plugin whose starts time out is given up like any other, however long they take.
        """
        plugin, now = Lifecycle(Policy(start=3600.0, half_life=60.0, threshold=5.0)), 0.0
        plugin.handle(StartAsked(), now)
        for _ in range(6):
            assert plugin.state is State.STARTING
            now = (plugin.deadline or 0.0) + 1.0
            crash(plugin, now)

        assert stands(plugin)[0] is State.QUARANTINED

    def test_a_reason_ends_when_the_plugin_is_ready(self) -> None:
        """
        A plugin that came back has no complaint left.
        """
        plugin = ready()
        plugin.handle(CRASH, now=1.0)
        assert plugin.reason == "SIGSEGV"
        start_again(plugin)
        plugin.handle(Loaded(), now=2.0)

        assert plugin.reason == ""


class TestSilence:
    def test_a_suspect_that_is_heard_again_is_ready(self) -> None:
        """
        Silence is a suspicion with a deadline and a reason; a sign of life ends it.
        """
        plugin = ready(Policy(hang=10.0))

        assert plugin.handle(Silent("no pong"), now=5.0) == []
        assert (plugin.state, plugin.deadline, plugin.reason) == (State.SUSPECT, 15.0, "no pong")
        assert plugin.handle(Heard(), now=14.0) == []
        assert (plugin.state, plugin.deadline, plugin.reason) == (State.READY, None, "")

    def test_a_suspect_that_stays_silent_is_ended_and_crashed(self) -> None:
        """
        It is killed until it is gone, and that counts as its crash.
        """
        plugin = ready(Policy(hang=10.0, terminate=2.0))
        plugin.handle(Silent("no pong"), now=5.0)

        assert plugin.expire(now=15.0) == [Kill("hang: no pong")]
        assert plugin.expire(now=17.0) == [Kill("hang: no pong")]
        plugin.handle(Exited("SIGKILL (hang: no pong)"), now=17.5)
        assert plugin.state is State.BACKOFF
        assert plugin.memory.crashes == 1.0

    def test_who_is_coming_or_going_has_other_deadlines(self) -> None:
        """
        A slow start is not a hang, and a stop has its own patience.
        """
        plugin = Lifecycle(Policy(start=60.0))
        plugin.handle(StartAsked(), now=0.0)
        plugin.handle(Silent("no pong"), now=5.0)
        assert (plugin.state, plugin.deadline) == (State.STARTING, 60.0)

        plugin.handle(Loaded(), now=6.0)
        assert (plugin.state, plugin.deadline) == (State.READY, None)
        plugin.handle(StopAsked(), now=7.0)
        due = plugin.deadline
        plugin.handle(Silent("no pong"), now=8.0)
        assert (plugin.state, plugin.deadline) == (State.DRAINING, due)


class TestRestartPolicy:
    @pytest.mark.parametrize(
        ("restart", "normal", "crash"),
        [
            (Restart.PERMANENT, State.BACKOFF, State.BACKOFF),
            (Restart.TRANSIENT, State.STOPPED, State.BACKOFF),
            (Restart.TEMPORARY, State.STOPPED, State.STOPPED),
        ],
    )
    def test_what_becomes_of_those_who_leave(
        self, restart: Restart, normal: State, crash: State
    ) -> None:
        """
        Permanent always comes back, transient unless it left well, temporary never.
        """
        left, fell = ready(Policy(restart=restart)), ready(Policy(restart=restart))
        left.handle(Exited("exit status 0", is_normal=True), now=1.0)
        fell.handle(CRASH, now=1.0)

        assert (left.state, fell.state) == (normal, crash)

    def test_who_has_left_stays_so_for_the_next_daemon(self) -> None:
        """
        A plugin that is not to come back is not started by a daemon that takes over.
        """
        plugin = ready(Policy(restart=Restart.TEMPORARY))
        plugin.handle(CRASH, now=1.0)
        successor = Lifecycle(Policy(restart=Restart.TEMPORARY), plugin.memory)

        assert stands(successor)[0] is State.STOPPED
        assert successor.reason == "it has left: SIGSEGV; its restart is temporary"
        successor.handle(RestartAsked(), now=2.0)
        assert stands(successor)[0] is State.DECLARED

    def test_a_crash_loop_has_as_many_starts_as_its_budget_says(self) -> None:
        """
        One start, and one more for each crash that is forgiven.
        """
        for budget in (0, 1, 5, 30):
            plugin, starts, now = ready(Policy(threshold=float(budget))), 1, 0.0
            for _ in range(100):
                plugin.handle(CRASH, now)
                if plugin.state is State.QUARANTINED:
                    break
                now = plugin.deadline or 0.0
                start_again(plugin)
                starts += 1
            assert starts == budget + 1

    def test_backoff_is_scattered(self) -> None:
        """
        Chance takes half of the wait away or adds half of it.
        """
        for chance, wait in ((0.0, 5.0), (0.5, 10.0), (0.999, 14.99)):
            plugin = ready(Policy(backoff=10.0, half_life=1e9))
            crash(plugin, 0.0)
            plugin.handle(CRASH, 1.0, chance)
            assert plugin.deadline == pytest.approx(1.0 + wait)


class TestExcuses:
    def test_what_the_host_did_costs_no_budget(self) -> None:
        """
        A worker that was lost with its node, or could not be made, is no crash of its plugin.
        """
        plugin = ready(Policy(threshold=0.0))
        plugin.handle(Exited("the node was lost", is_excused=True), now=1.0)

        assert (plugin.state, plugin.deadline) == (State.BACKOFF, 1.0)
        assert plugin.memory.crashes == 0.0

    def test_a_host_that_always_fails_gives_up(self) -> None:
        """
        Waiting for ever would leave those who loaded the plugin without an answer.
        """
        plugin = Lifecycle(Policy())
        plugin.handle(StartAsked(), now=0.0)
        for _ in range(MISFORTUNES - 1):
            plugin.handle(Exited("no descriptors", is_excused=True), now=0.0)
            start_again(plugin)
        plugin.handle(Exited("no descriptors", is_excused=True), now=0.0)

        assert plugin.state is State.QUARANTINED
        assert plugin.reason == "could not start 8 times in a row, last: no descriptors"

    def test_who_broke_while_its_provider_was_away_is_tried_again(self) -> None:
        """
        What raised for want of something is not broken itself.
        """
        plugin = Lifecycle(Policy())
        plugin.handle(StartAsked(), now=0.0)
        plugin.handle(Broke("on_load raised WorkerLost", "", is_excused=True), now=0.0)
        plugin.handle(Exited("exit status 1"), now=1.0)

        assert (plugin.state, plugin.reason) == (State.BACKOFF, "on_load raised WorkerLost")
        assert start_again(plugin) == [Spawn()]


class TestProviders:
    def test_a_blocked_worker_is_kept(self) -> None:
        """
        It goes on in its life once what it needs is back.
        """
        plugin = ready()
        plugin.handle(Block("base is away"), now=1.0)
        assert (plugin.state, plugin.has_worker, plugin.reason) == (
            State.BLOCKED,
            True,
            "base is away",
        )

        assert plugin.handle(StartAsked(), now=2.0) == []
        assert (plugin.state, plugin.reason) == (State.READY, "")

    def test_a_silence_is_remembered_while_it_is_blocked(self) -> None:
        """
        Who fell silent meanwhile is a suspect from the moment in which it could serve again.
        """
        plugin = ready(Policy(hang=10.0))
        plugin.handle(Block("base is away"), now=1.0)
        plugin.handle(Silent("no pong"), now=2.0)
        plugin.handle(StartAsked(), now=3.0)

        assert (plugin.state, plugin.deadline) == (State.SUSPECT, 13.0)

    def test_a_blocked_worker_that_dies_waits_for_its_provider(self) -> None:
        """
        There is no backoff beside the block; the crash counts.
        """
        plugin = ready()
        plugin.handle(Block("base is away"), now=1.0)
        plugin.handle(CRASH, now=2.0)

        assert (plugin.state, plugin.deadline, plugin.has_worker) == (State.BLOCKED, None, False)
        assert plugin.memory.crashes == 1.0
        assert plugin.handle(StartAsked(), now=3.0) == [Spawn()]
        assert plugin.restarts == 1

    def test_a_blocked_worker_can_be_stopped(self) -> None:
        """
        A stop asks it like any other.
        """
        plugin = ready(Policy(drain=5.0))
        plugin.handle(Block("base is away"), now=1.0)

        assert plugin.handle(StopAsked(), now=2.0) == [SendStop()]
        assert (plugin.state, plugin.deadline) == (State.DRAINING, 7.0)

    def test_who_follows_its_provider_starts_again_unpunished(self) -> None:
        """
        It leaves gently, spends nothing, and is declared again.
        """
        plugin = ready()

        assert plugin.handle(ProviderLeft(), now=1.0) == [SendStop()]
        plugin.handle(Exited("exit status 0", is_normal=True), now=2.0)
        assert plugin.state is State.DECLARED
        assert plugin.memory == Memory()


class TestStop:
    def test_a_plugin_is_asked_then_told_then_killed(self) -> None:
        """
        A stop is gentle first; each step has its time, and the last is repeated.
        """
        plugin = ready(Policy(drain=10.0, terminate=5.0))

        assert plugin.handle(StopAsked(), now=0.0) == [SendStop()]
        assert plugin.expire(now=9.9) == []
        assert plugin.expire(now=10.0) == [Terminate("it did not leave when asked")]
        assert plugin.state is State.STOPPING
        assert plugin.expire(now=15.0) == [Kill("it ignored SIGTERM")]
        assert plugin.expire(now=20.0) == [Kill("it ignored SIGTERM")]
        assert plugin.handle(CRASH, now=21.0) == []
        assert (plugin.state, plugin.deadline) == (State.STOPPED, None)

    def test_asking_again_does_not_win_time(self) -> None:
        """
        A second stop repeats the request and leaves the deadline where it was.
        """
        plugin = ready(Policy(drain=10.0))
        plugin.handle(StopAsked(), now=0.0)

        assert plugin.handle(StopAsked(), now=5.0) == [SendStop()]
        assert plugin.deadline == 10.0

    def test_news_that_crosses_the_stop_changes_nothing(self) -> None:
        """
        A worker that loads or breaks while it is to stop still stops.
        """
        for news in (Loaded(), Broke("on_unload raised", "")):
            plugin = Lifecycle(Policy(drain=10.0, terminate=5.0))
            plugin.handle(StartAsked(), now=0.0)
            plugin.handle(StopAsked(), now=1.0)
            plugin.handle(news, now=2.0)
            assert (plugin.state, plugin.deadline) == (State.DRAINING, 11.0)
            plugin.expire(now=11.0)
            plugin.handle(news, now=12.0)
            assert (plugin.state, plugin.deadline) == (State.STOPPING, 16.0)
            plugin.handle(CRASH, now=13.0)
            assert plugin.state is State.STOPPED

    def test_a_plugin_that_waits_to_restart_is_not_restarted(self) -> None:
        """
        A stop during backoff is the end.
        """
        plugin = ready()
        plugin.handle(CRASH, now=0.0)

        assert plugin.handle(StopAsked(), now=0.0) == []
        assert (plugin.state, plugin.deadline) == (State.STOPPED, None)


class TestRestart:
    def test_a_restart_stops_and_starts(self) -> None:
        """
        A person's restart is a stop with a start behind it, and counts as nobody's crash.
        """
        plugin = ready()

        assert plugin.handle(RestartAsked(), now=0.0) == [SendStop()]
        assert plugin.handle(Exited("exit status 0"), now=1.0) == []
        assert (plugin.state, plugin.restarts) == (State.DECLARED, 0)
        assert plugin.handle(StartAsked(), now=1.0) == [Spawn()]

    @pytest.mark.parametrize("news", [Loaded(), Broke("on_load raised", "")], ids=repr)
    def test_a_restart_is_not_forgotten(self, news: Event) -> None:
        """
        What the worker says on its way out does not turn a restart into a stop.
        """
        plugin = Lifecycle(Policy())
        plugin.handle(StartAsked(), now=0.0)
        plugin.handle(RestartAsked(), now=1.0)
        plugin.handle(news, now=2.0)

        plugin.handle(CRASH, now=3.0)
        assert plugin.state is State.DECLARED

    def test_the_last_word_counts(self) -> None:
        """
        A stop after a restart is a stop, a restart after a stop is a restart.
        """
        plugin = ready()
        plugin.handle(RestartAsked(), now=0.0)
        plugin.handle(StopAsked(), now=1.0)
        plugin.handle(CRASH, now=2.0)
        assert plugin.state is State.STOPPED

        plugin = ready()
        plugin.handle(StopAsked(), now=0.0)
        plugin.handle(RestartAsked(), now=1.0)
        plugin.handle(CRASH, now=2.0)
        assert plugin.state is State.DECLARED

    def test_quarantine_ends_when_a_person_says_so(self) -> None:
        """
        A restart out of quarantine forgives the crashes before it.
        """
        plugin = ready(Policy(threshold=1.5, half_life=1e9))
        crash(plugin, 0.0)
        plugin.handle(CRASH, now=1.0)
        assert stands(plugin)[0] is State.QUARANTINED

        assert plugin.handle(RestartAsked(), now=2.0) == []
        assert plugin.handle(StartAsked(), now=2.0) == [Spawn()]
        plugin.handle(CRASH, now=3.0)
        assert stands(plugin)[0] is State.BACKOFF

    def test_quarantine_ends_with_the_code_that_was_quarantined(self) -> None:
        """
        Changed code begins with a whole budget.
        """
        plugin = ready(Policy(threshold=0.0))
        plugin.handle(CRASH, now=1.0)
        plugin.code = "before"
        assert plugin.memory.code == "before"

        assert plugin.handle(CodeChanged(), now=2.0) == []
        assert (plugin.state, plugin.memory) == (State.DECLARED, Memory(last_crash=1.0))

    def test_a_plugin_without_a_worker_is_looked_at_anew(self) -> None:
        """
        Restarting what is blocked or stopped lets it try.
        """
        plugin = Lifecycle(Policy())
        plugin.handle(Block("needs base"), now=0.0)
        assert plugin.handle(RestartAsked(), now=0.0) == []
        assert plugin.state is State.DECLARED

        plugin.handle(StopAsked(), now=0.0)
        assert plugin.handle(RestartAsked(), now=0.0) == []
        assert plugin.state is State.DECLARED


class TestMemory:
    def test_another_daemon_goes_on_with_the_budget(self) -> None:
        """
        Crashes before a daemon's death count after it.
        """
        policy = Policy(threshold=2.5, half_life=1e9)
        plugin = ready(policy)
        crash(plugin, 1.0)
        crash(plugin, 2.0)
        successor = Lifecycle(policy, plugin.memory)
        successor.handle(StartAsked(), now=3.0)
        successor.handle(CRASH, now=3.0)

        assert successor.state is State.QUARANTINED
        assert successor.restarts == 2

    def test_quarantine_outlives_the_daemon(self) -> None:
        """
        What was given up stays given up, with its reason, until a person says otherwise.
        """
        plugin = Lifecycle(LONG)
        plugin.handle(StartAsked(), now=0.0)
        plugin.handle(Broke("on_load raised", "Traceback"), now=0.0)
        plugin.handle(CRASH, now=1.0)
        successor = Lifecycle(LONG, plugin.memory)

        assert successor.state is State.QUARANTINED
        assert (successor.reason, successor.traceback) == ("on_load raised", "Traceback")
        assert ready().memory == Memory()


class TestEveryState:
    @pytest.mark.parametrize("state", State)
    @pytest.mark.parametrize("request_", [StopAsked(), RestartAsked()], ids=repr)
    def test_a_persons_request_is_always_legal(self, state: State, request_: Event) -> None:
        """
        People may ask at any moment; only observations can be impossible.
        """
        plugin = Lifecycle(Policy())
        plugin.state = state

        plugin.handle(request_, now=0.0)

        assert plugin.state in {State.DRAINING, State.STOPPING, State.STOPPED} or isinstance(
            request_, RestartAsked
        )

    @pytest.mark.parametrize("state", State)
    @pytest.mark.parametrize("event", OBSERVED, ids=lambda event: type(event).__name__)
    def test_an_impossible_observation_changes_nothing(self, state: State, event: Event) -> None:
        """
        What cannot have happened is our bug: it raises and leaves the state as it was.
        """
        if (state, type(event)) in TRANSITIONS:
            return
        plugin = Lifecycle(Policy())
        plugin.state = state

        with pytest.raises(LifecycleError, match=f"{type(event).__name__} while {state.value}"):
            plugin.handle(event, now=0.0)
        assert plugin.state is state

    @pytest.mark.parametrize("state", State)
    def test_early_and_superfluous_calls_are_harmless(self, state: State) -> None:
        """
        Nothing expires where nothing is pending.
        """
        plugin = Lifecycle(Policy())
        plugin.state = state

        assert plugin.expire(now=1e12) == []
        assert plugin.state is state

    @settings(max_examples=300)
    @given(st.lists(st.sampled_from(ANYTHING), max_size=40), st.sampled_from(Restart))
    def test_the_table_holds_every_change(self, events: list[Event], restart: Restart) -> None:
        """
        Whatever happens in whatever order, a state is left only along the table, and a worker is
        there in exactly those states that have one.
        """
        plugin, now = Lifecycle(Policy(restart=restart, threshold=2.0)), 0.0
        for event in events:
            now += 1.0
            if (plugin.state, type(event)) not in TRANSITIONS:
                continue
            if not plugin.has_worker and plugin.state is State.BLOCKED and _of_worker(event):
                continue
            before = plugin.state
            actions = plugin.handle(event, now)
            assert plugin.state in TRANSITIONS[before, type(event)]
            assert (Spawn() in actions) == (plugin.state is State.STARTING is not before)
            if plugin.state is not State.BLOCKED:
                assert plugin.has_worker == (plugin.state in WITH_WORKER)
            if plugin.state in WAITING:
                assert plugin.deadline is not None


def _of_worker(event: Event) -> bool:
    return isinstance(event, Exited | Silent | Heard)
