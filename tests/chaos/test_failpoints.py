"""Whatever fails at whichever step: every call has its outcome, and what is wanted runs again."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Final

import pytest

from protocol.failpoints import FAIL, POINTS, SPEC
from spiral_host import Host, LoadResult
from tests.chaos.conftest import Scale, Tell
from tests.chaos.scene import PLUGINS, Outcome, place_of
from tests.chaos.table import Row
from tests.chaos.trial import Passage, Trial, numbered
from tests.hosts import DEADLINE, Run, eventually

SOME: Final = 5
"""Trials of each action in a run of all tests; together they should take a minute at most."""

AT_ONCE: Final = 4
"""Trials at the same time: a trial waits more than it works."""

ADOPTING: Final = frozenset(name for name in POINTS if name.split(".")[0] in {"adopt", "greet"})
"""Points for whose sake the daemon is killed in the middle of every trial."""

_ACTIONS: Final = ("kill", "stop", "delay(200)", "error")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each action; or of each step and action, if all are to be tried."""
    if "step" not in metafunc.fixturenames:
        return
    steps = [""]
    if metafunc.config.getoption("failpoints", default=None) == "all":
        steps = list(dict.fromkeys(name.partition(".")[0] for name in POINTS))
    shares = [
        (step, action)
        for step in steps
        for action in _ACTIONS
        if action != "error" or any(name.startswith(step) for name in FAIL)
    ]
    metafunc.parametrize(("step", "action"), shares)


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    """Every passage of scenes in which nothing fails."""
    found: dict[Passage, None] = {}
    for adopts in (False, True):
        trial = Trial("", adopts=adopts)
        trial.run()
        known = numbered(trial.passed)
        found |= dict.fromkeys(one for one in known if (one.name in ADOPTING) == adopts)
    return list(found)


def attempt(spec: str) -> tuple[bool, str]:
    """Try one failure; say whether it was come by, and what was not as promised."""
    name = spec.partition("=")[0].rpartition("/")[2]
    trial = Trial(spec, adopts=name in ADOPTING)
    try:
        trial.run()
    except AssertionError as error:
        return True, str(error)
    return trial.has_failed, ""


def attempt_until_not_reached(where: str, action: str) -> list[str]:
    """Try the first passage of a point, the second, and so on; give what was not as promised."""
    complaints = []
    for number in count(1):
        was_reached, complaint = attempt(Passage(where, number).failing(action))
        complaints.append(complaint)
        if not was_reached:
            break
    return complaints


def test_a_failure_ends_well(
    passages: list[Passage], scale: Scale, tell: Tell, step: str, action: str
) -> None:
    """Every outcome in time, everything ready again, nothing run twice, nothing left behind."""
    here = [one for one in passages if action != "error" or one.name in FAIL]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        if step:
            places = dict.fromkeys(one.where for one in here if one.name.partition(".")[0] == step)
            assert places, f"no scene leads past {step}"
            tried = pool.map(lambda where: attempt_until_not_reached(where, action), places)
            complaints = [complaint for several in tried for complaint in several]
        else:
            some = [one.failing(action) for one in random.Random(scale.seed).sample(here, SOME)]
            complaints = [complaint for _, complaint in pool.map(attempt, some)]
    failed = [complaint for complaint in complaints if complaint]
    told = Row(what="that did not end well", found=len(failed), of=len(complaints), most=0)
    tell(f"failpoints: {action} at {step or 'some steps'}", [told])
    said = "\n\n".join(failed)
    assert not failed, f"{len(failed)} of {len(complaints)} (--seed {scale.seed}):\n\n{said}"


class TestEveryLife:
    """What fails again and again is given up, and says why."""

    @pytest.mark.parametrize(
        ("spec", "why"),
        [
            ("worker:back/confine.before=kill", "SIGKILL"),
            ("worker:back/load.done=error", "failpoint load.done"),
            ("node/spawn.before=error", "failpoint spawn.before"),
            ("zygote/fork.before=kill", "the zygote died"),
        ],
    )
    def test_a_plugin(self, run: Run, monkeypatch: pytest.MonkeyPatch, spec: str, why: str) -> None:
        """It is in quarantine, with the cause; what depends on it is blocked."""
        monkeypatch.setenv(SPEC, spec)
        host = run.start()
        results = {one.id: one for one in load_both(host)}
        assert results["back"].state == "quarantined"
        assert why in results["back"].reason
        assert results["front"].state == "blocked"
        assert "back" in results["front"].reason

    def test_the_node(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """The daemon ends and says so."""
        monkeypatch.setenv(SPEC, "node/greet.before=kill")
        daemon = run.start_daemon()
        assert daemon.wait(3 * DEADLINE) == 1  # it tries several times
        assert "the node ends as soon as it starts" in daemon.last_words()
        eventually(lambda: not run.processes())
        assert not run.files()


def load_both(host: Host) -> Sequence[LoadResult]:
    return host.load([place_of(name) for name in PLUGINS])


def test_what_cannot_be_meant_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the daemon, before it does anything."""
    monkeypatch.setenv(SPEC, "store.before=kill; spawn.sometime=kill")
    daemon = run.start_daemon()
    assert daemon.wait(DEADLINE) == 2
    assert daemon.last_words().startswith(f"spiral-host: {SPEC}, entry 2, 'spawn.sometime=kill'")
    assert not run.run_dir.exists()


class Judged(Trial):
    """A trial of which the end is told, not tried."""

    def __init__(self, done: Sequence[int], outcome: Outcome, left: str = "") -> None:
        super().__init__("")
        data = self._run.data_dir / "back"
        data.mkdir(parents=True)
        (data / "done").write_text("".join(f"{number}\n" for number in done))
        self.outcomes = [outcome]
        if left:
            (self._run.run_dir / left).mkdir(parents=True)

    def judge(self) -> None:
        """Say whether it ended well."""
        try:
            self._judge()
        finally:
            self._clear_away()


class TestTheJudge:
    """It would notice."""

    def test_what_is_right_is_right(self) -> None:
        """Acknowledged and carried out once."""
        Judged([1, 7], Outcome("call 1", "value", ["value", 1], 0.1)).judge()

    @pytest.mark.parametrize(
        ("done", "kind", "complaint"),
        [
            ([], "value", "acknowledged and not carried out"),
            ([1, 1], "value", "carried out more than once"),
            ([1], "ServiceUnavailable", "said that it was not"),
        ],
    )
    def test_a_call(self, done: Sequence[int], kind: str, complaint: str) -> None:
        """One that was lost, doubled, or denied."""
        with pytest.raises(AssertionError, match=complaint):
            Judged(done, Outcome("call 1", "value", [kind, 1], 0.1)).judge()

    def test_what_is_left(self) -> None:
        """A file of the run."""
        with pytest.raises(AssertionError, match="left behind"):
            Judged([1], Outcome("call 1", "value", ["value", 1], 0.1), left="tmp").judge()

    def test_a_daemon_that_does_not_come_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody starts it again: the application waits in vain."""
        monkeypatch.setattr(Trial, "_start_again", lambda *_: None)
        monkeypatch.setattr("tests.chaos.scene.READY_S", 1.0)
        trial = Trial("daemon/load.heard=1*kill")
        with pytest.raises(AssertionError, match="no daemon|the plugins do not settle|NoDaemon"):
            trial.run()


def test_a_scene_leads_past_every_point(passages: list[Passage]) -> None:
    """Else there would be points that nothing tries."""
    assert {one.name for one in passages} == set(POINTS)


def test_passages_are_numbered_as_processes_count() -> None:
    """Each plugin's workers by themselves."""
    passed = ["node/a", "worker:x/b", "worker:y/b", "node/a", "worker:x/b"]
    assert [(one.where, one.number) for one in numbered(passed)] == [
        ("node/a", 1),
        ("worker:x/b", 1),
        ("worker:y/b", 1),
        ("node/a", 2),
        ("worker:x/b", 2),
    ]
    assert Passage("node/a", 1).failing("kill") == "node/a=1*kill"
    assert Passage("node/a", 3).failing("kill") == "node/a=2*off->1*kill"
