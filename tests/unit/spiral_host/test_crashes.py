import json
import sys

import pytest

from protocol.messages import Cause, Flight, Vital
from protocol.version import VERSION
from spiral_host.crashes import MAX_LINE, MAX_LINES, MAX_TEXT, Kind, compose, kind_of
from tests.unit.spiral_host.deaths import WALL, death, remains, report

KILLED = {"kind": "signal", "code": 9}
RAISED = "on_load raised ValueError: no"

KINDS = [
    ({"kind": "exit", "code": 3}, {}, Kind.EXIT),
    ({"kind": "exit", "code": 0}, {}, Kind.EXIT),
    ({"kind": "signal", "code": 11}, {}, Kind.SIGNAL),
    (KILLED, {}, Kind.SIGNAL),
    ({**KILLED, "rule": "out of memory"}, {}, Kind.OUT_OF_MEMORY),
    ({**KILLED, "rule": "hang: no answer for 10 s"}, {}, Kind.HANG),
    ({**KILLED, "rule": "start timeout"}, {}, Kind.START_TIMEOUT),
    ({**KILLED, "rule": "protocol violation: no message"}, {}, Kind.VIOLATION),
    ({**KILLED, "rule": "it closed its umbilical"}, {}, Kind.RULE),
    ({**KILLED, "rule": "hangup of the moon"}, {}, Kind.RULE),
    ({**KILLED, "rule": "limit disk: 9 MiB, 8 MiB allowed"}, {}, Kind.LIMIT),
    ({"kind": "exit", "code": 1}, {"reason": RAISED, "traceback": "Traceback"}, Kind.RAISED),
    ({**KILLED, "rule": "start timeout"}, {"traceback": "Traceback"}, Kind.RAISED),
    ({**KILLED, "rule": "it closed its umbilical"}, {"traceback": "Traceback"}, Kind.RAISED),
    ({"kind": "unknown"}, {"reason": "could not be started: no room"}, Kind.NOT_STARTED),
    ({"kind": "unknown"}, {"reason": "the node was lost"}, Kind.NODE_LOST),
    ({"kind": "unknown"}, {"reason": "unknown cause"}, Kind.UNKNOWN),
]


class TestKind:
    @pytest.mark.parametrize(("cause", "more", "kind"), KINDS)
    def test_every_death_has_one_word(
        self, cause: dict[str, object], more: dict[str, str], kind: Kind
    ) -> None:
        """
        A rule tells more than the signal it sends, and a traceback more than either.
        """
        said = {"reason": "", **more}
        assert kind_of(death(cause=Cause(**cause), **said)) is kind  # type: ignore[arg-type]

    def test_every_word_is_said_of_some_death(self) -> None:
        """
        No kind is there that no death can have.
        """
        assert {kind for _, _, kind in KINDS} == set(Kind)


class TestReport:
    def test_it_says_everything_that_is_known(self) -> None:
        """
        What the supervisor and the node know is all in it, and fit for JSON.
        """
        said = json.loads(json.dumps(report().to_dict(), allow_nan=False))

        assert said == {
            "plugin_id": "alpha",
            "version": "1.2.0",
            "path": "/plugins/alpha",
            "incarnation": 7,
            "pid": 4242,
            "kind": "signal",
            "summary": "SIGSEGV, while ready, 61.5 s after its start",
            "cause": "SIGSEGV",
            "signal": "SIGSEGV",
            "exit_status": None,
            "rule": "",
            "reason": "SIGSEGV",
            "state": "ready",
            "lived_s": 61.5,
            "traceback": "",
            "stacks": remains().stacks,
            "calls": 12,
            "errors": 2,
            "in_flight": [
                {"service": "math", "number": 9, "caller": 3, "caller_name": "beta", "left_s": 1.25}
            ],
            "events": ["EpochEnd", "EpochStart"],
            "log": ["first line", "last line"],
            "vitals": [{"ago_s": 5.0, "memory": 40_000_000, "cpu_s": 2.5, "threads": 3}],
            "past": [{"ago_s": 30.0, "cause": "exit status 3", "lived_s": 2.0}],
            "restarts": 1,
            "next": "restart",
            "next_in_s": 0.5,
            "next_at": "2023-11-14T22:13:20.500+00:00",
            "at": "2023-11-14T22:13:20.000+00:00",
            "wall": WALL,
            "monotonic": 100.0,
            "versions": {
                "plugin": "1.2.0",
                "python": ".".join(map(str, sys.version_info[:3])),
                "protocol": str(VERSION),
            },
        }

    def test_signals_and_statuses_are_told_apart(self) -> None:
        """
        An exit has a status and no signal; a signal is named, with the rule that sent it apart.
        """
        left = report(cause=Cause(kind="exit", code=3))
        killed = report(cause=Cause(kind="signal", code=9, rule="start timeout"))

        assert (left.signal, left.exit_status, left.rule) == (None, 3, "")
        assert (killed.signal, killed.exit_status, killed.rule) == (
            "SIGKILL",
            None,
            "start timeout",
        )
        assert killed.cause == "SIGKILL (start timeout)"

    def test_a_lost_node_leaves_nothing_to_tell(self) -> None:
        """
        Without remains what nobody counted is unknown, not zero, and nothing is made up.
        """
        bare = report(
            cause=Cause(kind="unknown"), reason="the node was lost", remains=None, lived_s=None
        )

        assert (bare.calls, bare.errors, bare.lived_s) == (None, None, None)
        assert (bare.stacks, bare.in_flight, bare.log, bare.vitals) == ("", (), (), ())
        assert bare.summary == "the node was lost, while ready"

    def test_the_node_knows_how_long_it_lived(self) -> None:
        """
        A supervisor that did not see it begin believes the node.
        """
        assert report(lived_s=None).lived_s == 61.5

    def test_what_nothing_follows_has_no_time(self) -> None:
        """
        A plugin in quarantine waits for a person, so no moment is named.
        """
        given_up = report(next="quarantined", next_in_s=None)

        assert (given_up.next, given_up.next_in_s, given_up.next_at) == ("quarantined", None, None)

    @pytest.mark.parametrize(
        ("more", "summary"),
        [
            ({"cause": Cause(kind="signal", code=9, rule="hang: silent")}, "hang: silent"),
            ({"cause": Cause(kind="exit", code=1), "reason": RAISED, "traceback": "T"}, RAISED),
            (
                {
                    "cause": Cause(kind="signal", code=9, rule="start timeout"),
                    "reason": RAISED,
                    "traceback": "T",
                },
                RAISED,
            ),
            ({"cause": Cause(kind="unknown"), "reason": ""}, "unknown cause"),
        ],
    )
    def test_the_summary_leads_with_what_happened(
        self, more: dict[str, object], summary: str
    ) -> None:
        """
        A rule, or what the plugin raised, says more than how the process then ended.
        """
        assert report(**more).summary == f"{summary}, while ready, 61.5 s after its start"


class TestHostileWorker:
    def test_a_report_has_bounds(self) -> None:
        """
        However much a worker has said: the end of its log and traceback stay, and the newest lines.
        """
        much = "x" * 3 * MAX_TEXT
        flight = Flight(service=much, number=1, caller=1, caller_name=much, left_s=1.0)
        vital = Vital(ago_s=0.0, memory=1, cpu_s=1.0, threads=1)
        left = remains(
            stacks="head" + much,
            log="line\n" * MAX_TEXT + "end",
            events=(much,) * 1000 + ("end",),
            flights=(flight,) * 1000,
            vitals=(vital,) * 1000,
        )

        said = report(remains=left, traceback=much + "end", reason=much)

        assert said.stacks.startswith("head")
        assert said.traceback.endswith("end")
        assert (len(said.stacks), len(said.traceback)) == (MAX_TEXT, MAX_TEXT)
        assert (said.log[-1], said.events[-1]) == ("end", "end")
        for lines in (said.log, said.events, said.in_flight, said.vitals):
            assert len(lines) == MAX_LINES
        assert len(said.events[0]) == len(said.in_flight[0].service) == MAX_LINE
        assert len(said.summary) < 2 * MAX_LINE

    def test_numbers_that_json_lacks_are_left_out(self) -> None:
        """
        A page that the worker wrote may hold any number.
        """
        nan, infinite = float("nan"), float("inf")
        flight = Flight(service="m", number=1, caller=1, caller_name="", left_s=nan)
        vital = Vital(ago_s=nan, memory=1, cpu_s=infinite, threads=1)
        left = remains(lived_s=infinite, flights=(flight,), vitals=(vital,))

        said = report(remains=left, lived_s=None)

        json.dumps(said.to_dict(), allow_nan=False)
        assert said.lived_s is None

    def test_one_line_stays_one_line(self) -> None:
        """
        What is told in one line cannot begin another.
        """
        said = report(
            cause=Cause(kind="signal", code=9, rule="protocol violation: a\nb"),
            remains=remains(events=("a\nb\u2028c",)),
        )

        assert said.summary.startswith("protocol violation: a b,")
        assert said.events == ("a b c",)

    def test_any_text_can_be_written(self) -> None:
        """
        Half characters and control characters go through JSON and come back.
        """
        text = "\ud800\x1b[2J\x00\x7f"
        said = compose(death(traceback=text), WALL, 1.0)

        assert json.loads(json.dumps(said.to_dict()))["traceback"] == text
