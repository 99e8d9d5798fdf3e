"""Commands against a fake host: what they ask of it, what they print, how they leave."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import RemoteError, UsageError, WorkerLost
from protocol.events import PluginEvent
from spiral_host import LoadResult
from tests.clock import Clock
from tests.unit.spiral_host.cli.fakes import (
    FAILED,
    PID,
    READY,
    FakeHost,
    FakeProcess,
    Town,
    error_lines,
    loaded,
    one_line,
)


class TestEveryCommand:
    @pytest.mark.parametrize(
        "words",
        [
            ("status",),
            ("stop",),
            ("plugins", "--json"),
            ("health",),
            ("services",),
            ("load", "."),
            ("unload", "alpha"),
            ("restart", "alpha"),
            ("permissions",),
            ("grant", "alpha"),
            ("revoke", "alpha"),
            ("logs", "alpha"),
            ("call", "math.add"),
            ("publish", "X"),
            ("events",),
            ("replay", __file__),
        ],
        ids=lambda words: words[0],
    )
    def test_without_a_daemon_is_3(self, words: tuple[str, ...]) -> None:
        """
        Nobody there is status 3 and one line that names the directory and the cure.
        """
        result = Town(runs=False).command(*words)

        one_line(result, 3, "/run/town", "spiral-host start")
        assert result.stdout == ""

    @pytest.mark.parametrize(
        "words",
        [
            ("nonsense",),
            ("plugins", "--nonsense"),
            ("load",),
            ("load", "no/such/path"),
            ("start", "no/such/path"),
            ("run", "no/such/path"),
            ("start", "--sandbox", "none"),
            ("start", "--alone", "0"),
            ("run", "--alone", "nan"),
            ("unload", "../x"),
            ("restart", "x" * 300),
            ("logs", "a\x1b[31m"),
            ("permissions", "../x"),
            ("revoke", "../x"),
            ("grant", "../x"),
            ("grant", "alpha", "--nothing", "gpu"),
            ("grant", "alpha", "gpu", "gpu=1"),
            ("grant", "alpha", "gpu=1", "gpu"),
            ("report", "../x"),
            ("logs", "alpha", "--lines", "0"),
            ("call", "math"),
            ("call", "math.add", '{"a":'),
            ("publish", "SystemInit"),
            ("publish", "EpochStart"),
            ("publish", "EpochStart", '{"epoc": 1}'),
            ("publish", "X", "[1,"),
            ("events", "--count", "0"),
            ("events", "--record", __file__),
            ("replay", "no/such/file"),
            ("replay", __file__, "--speed", "0"),
            ("replay", __file__, "--speed", "nan"),
        ],
        ids=" ".join,
    )
    def test_wrong_usage_is_2_and_asks_nothing(self, words: tuple[str, ...]) -> None:
        """
        What cannot be meant is refused before any daemon is asked or started.
        """
        town = Town()

        one_line(town.command(*words), 2, "; ")

        assert town.run_dirs == []
        assert town.configs == []

    def test_run_dir_may_stand_on_either_side(self) -> None:
        """
        `--run-dir` before or behind the command wins over the environment.
        """
        town = Town()

        town.command("plugins")
        town.command("--run-dir", "/run/a", "plugins")
        town.command("plugins", "--run-dir", "/run/b")

        assert town.run_dirs == [Path("/run/town"), Path("/run/a"), Path("/run/b")]

    def test_connections_are_closed(self) -> None:
        """
        A command that fails half-way leaves no connection behind.
        """
        town = Town()

        town.command("unload", "nobody")

        assert town.host.closed

    def test_version_needs_no_installation(self) -> None:
        """
        A clone says its version too.
        """
        result = Town().command("--version")

        assert result.exit_code == 0
        assert result.stdout.startswith("spiral-host ")

    def test_a_killed_daemon_is_told(self, tmp_path: Path) -> None:
        """
        Where a daemon left its store behind, the line says that its plugins are not lost.
        """
        (tmp_path / "state.db").touch()

        result = Town(runs=False).command("status", "--run-dir", str(tmp_path))

        one_line(result, 3, "takes over", "spiral-host start")


class TestStart:
    def test_loads_everything_in_one_request(self, tmp_path: Path) -> None:
        """
        Paths given together are loaded together, absolute, and then initialised once.
        """
        town = Town(FakeHost(infos=[READY], results=[loaded(READY)]), runs=False)

        result = town.command("start", str(tmp_path), "--best-effort", "--alone", "9")

        assert result.exit_code == 0
        assert town.host.asked == [("load", str(tmp_path)), "initialize_all"]
        assert "alpha: ready, pid 11\n" in result.stdout
        (config,) = town.configs
        assert (config.run_dir, config.best_effort) == (Path("/run/town"), True)
        assert config.alone_s == 9

    def test_says_which_failed_and_why(self, tmp_path: Path) -> None:
        """
        One failure is status 1; its line and its traceback stand on stderr, the others run.
        """
        host = FakeHost(infos=[READY, FAILED], results=[loaded(READY), loaded(FAILED)])

        result = Town(host, runs=False).command("start", str(tmp_path))

        assert result.exit_code == 1
        assert "alpha: ready" in result.stdout
        first, *trace = error_lines(result)
        assert first.startswith("spiral-host: broken: failed: on_load raised ValueError: no; ")
        assert trace == FAILED.traceback.splitlines()

    def test_a_refused_second_is_not_hidden_by_its_namesake(self, tmp_path: Path) -> None:
        """
        Of two plugins with one id, the second is reported although the first is ready.
        """
        second = LoadResult(
            path="/b", id="alpha", state="failed", reason="id alpha is taken; x", traceback=""
        )
        host = FakeHost(infos=[READY], results=[loaded(READY), second])

        result = Town(host, runs=False).command("start", str(tmp_path), "--json")

        assert [outcome["state"] for outcome in json.loads(result.stdout)] == ["ready", "failed"]
        one_line(result, 1, "alpha", "taken")

    def test_what_is_there_already_is_no_failure(self, tmp_path: Path) -> None:
        """
        A daemon that took over has some plugins already: asking for them again is no mistake.
        """
        again = LoadResult(
            path=READY.path, id=None, state="refused", reason="is loaded already", traceback=""
        )
        host = FakeHost(infos=[READY], results=[again])

        result = Town(host, runs=False).command("start", str(tmp_path))

        assert result.exit_code == 0, result.stderr
        assert "alpha: ready, pid 11\n" in result.stdout

    def test_refuses_a_second_daemon(self) -> None:
        """
        Where a daemon runs, none is started, and the line says what to do instead.
        """
        town = Town()

        one_line(town.command("start"), 1, str(PID), "spiral-host load", "spiral-host stop")

        assert town.configs == []

    def test_a_daemon_that_ends_is_quoted(self) -> None:
        """
        When the daemon ends at once, the last error line that it wrote is the error.
        """
        said = ["noise", "spiral-host: sandbox: no landlock; say --best-effort", "noise"]
        town = Town(runs=False, process=FakeProcess(ended=1, said=said))

        result = town.command("start")

        line = one_line(result, 1)
        assert line == "spiral-host: sandbox: no landlock; say --best-effort"

    def test_another_daemon_that_answers_is_not_ours(self) -> None:
        """
        Losing a race for the directory is told, and the process of ours is ended.
        """
        town = Town(FakeHost(pid=7), runs=False)

        one_line(town.command("start"), 1, "pid 7", "already runs")

        assert town.process.terminated

    def test_an_interrupted_start_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Ctrl-C while plugins come up ends the daemon that was started for them.
        """
        town = Town(runs=False)

        def interrupt() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(town.host, "initialize_all", interrupt)

        assert town.command("start").exit_code == 130
        assert town.process.terminated

    def test_an_interrupted_takeover_ends_nothing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """
        Plugins that ran before this command go on after it, whatever becomes of it.
        """
        (tmp_path / "state.db").touch()
        town = Town(runs=False)

        def interrupt() -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(town.host, "initialize_all", interrupt)

        assert town.command("start", "--run-dir", str(tmp_path)).exit_code == 130
        assert not town.process.terminated


class TestStop:
    def test_waits_for_the_end(self) -> None:
        """
        Success means that the process is gone.
        """
        result = Town().command("stop", "--json")

        assert result.exit_code == 0
        assert json.loads(result.stdout)["pid"] == PID

    def test_says_when_it_takes_too_long(self) -> None:
        """
        A daemon that still stops at the deadline is a no, with its pid.
        """
        one_line(Town(stops=False).command("stop", "--timeout", "0"), 1, str(PID))


class TestPlugins:
    def test_json_is_a_list_of_objects(self) -> None:
        """
        Scripts find the promised keys.
        """
        result = Town(FakeHost(infos=[READY])).command("plugins", "--json")

        (plugin,) = json.loads(result.stdout)
        assert {"id", "version", "state", "pid", "restarts", "capabilities"} <= set(plugin)
        assert plugin["capabilities"] == ["Operators"]

    def test_hostile_names_stay_in_their_line(self) -> None:
        """
        A plugin's text cannot add a line to the table or move the cursor.
        """
        hostile = replace(READY, version="1\n\x1b[2J", reason="\x9b2J")

        lines = Town(FakeHost(infos=[hostile])).command("plugins").stdout.splitlines()

        assert len(lines) == 2
        assert all(line.isprintable() for line in lines)

    def test_health_shows_figures(self) -> None:
        """
        People read MB; scripts read bytes.
        """
        town = Town(FakeHost(infos=[READY]))

        assert "1.9 MB" in town.command("health").stdout
        assert json.loads(town.command("health", "--json").stdout)[0]["memory"] == 1_900_000

    def test_load_reports_each(self, tmp_path: Path) -> None:
        """
        `load` leaves with 1 when one of its plugins failed.
        """
        town = Town(FakeHost(infos=[READY, FAILED], results=[loaded(READY)]))
        assert town.command("load", str(tmp_path)).exit_code == 0

        town.host.results.append(loaded(FAILED))
        assert town.command("load", str(tmp_path)).exit_code == 1

    @pytest.mark.parametrize("command", ["unload", "restart", "logs"])
    def test_an_unknown_plugin_is_a_no(self, command: str) -> None:
        """
        A good id that nobody has is status 1, not wrong usage.
        """
        one_line(Town().command(command, "nobody"), 1, "nobody", "spiral-host plugins")

    def test_unload_and_restart_are_asked_for(self) -> None:
        """
        Both name what they did.
        """
        town = Town(FakeHost(infos=[READY]))

        assert town.command("unload", "alpha").stdout == "alpha: unloaded\n"
        assert town.command("restart", "alpha").stdout == "alpha: ready, pid 11\n"
        assert town.host.asked == [("unload", "alpha"), ("restart", "alpha")]

    def test_a_restart_that_fails_is_a_no(self) -> None:
        """
        What is not ready afterwards is status 1, in JSON too.
        """
        town = Town(FakeHost(infos=[FAILED]))

        assert town.command("restart", "broken").exit_code == 1
        assert town.command("restart", "broken", "--json").exit_code == 1

    def test_logs_are_harmless(self) -> None:
        """
        Log lines are printed one a line, escapes shown; `--lines` takes the last ones.
        """
        town = Town(FakeHost(infos=[READY], lines=["first", "\x1b[31mred"]))

        assert town.command("logs", "alpha", "--lines", "1").stdout == "\\x1b[31mred\n"
        assert json.loads(town.command("logs", "alpha", "--json").stdout) == town.host.lines


class TestCall:
    def test_passes_values_and_prints_json(self) -> None:
        """
        Arguments arrive as values, negative numbers included; the result is JSON.
        """
        town = Town(FakeHost(methods={"echo": lambda *values: list(values)}))

        result = town.command("call", "math.echo", "1", "-2", "word", '{"a": null}', "--json")

        assert result.exit_code == 0
        assert json.loads(result.stdout) == [1, -2, "word", {"a": None}]

    def test_unknown_names_are_a_no_that_helps(self) -> None:
        """
        An unknown service or method lists what there is.
        """
        town = Town(FakeHost(methods={"add": lambda a, b: a + b}))

        one_line(town.command("call", "maths.add"), 1, "maths", "offered now: math")
        one_line(town.command("call", "math.sub"), 1, "sub", "it has: add")
        one_line(town.command("call", "math.__class__"), 1, "it has: add")
        one_line(Town().command("call", "math.add"), 1, "no service at all")

    def test_what_the_plugin_raised_is_told(self) -> None:
        """
        Type and message in one line; the traceback only when asked for.
        """
        error = RemoteError("math.div", "ZeroDivisionError", "by\nzero", "Traceback\n  plugin.py")

        def divide() -> None:
            raise error

        town = Town(FakeHost(methods={"div": divide}))

        one_line(town.command("call", "math.div"), 1, "ZeroDivisionError: by\\nzero", "--traceback")
        asked = error_lines(town.command("call", "math.div", "--traceback"))
        assert asked[1:] == ["Traceback", "  plugin.py"]

    def test_a_worker_lost_is_a_no(self) -> None:
        """
        A death during the call names plugin and cause.
        """
        lost = WorkerLost("alpha", "signal 11 (SIGSEGV)")

        def die() -> None:
            raise lost

        one_line(Town(FakeHost(methods={"die": die})).command("call", "math.die"), 1, "SIGSEGV")


class TestEvents:
    def test_publish_builds_the_event(self) -> None:
        """
        JSON is a built-in event's fields, or all of a custom one's data.
        """
        town = Town()

        assert town.command("publish", "EpochEnd", '{"epoch": 1, "loss": 0.5}').exit_code == 0
        assert town.command("publish", "Custom", "[1, 2]").exit_code == 0
        assert town.command("publish", "Bare").exit_code == 0

        assert town.host.asked == [
            PluginEvent.EpochEnd(epoch=1, loss=0.5),
            PluginEvent.custom("Custom", [1, 2]),
            PluginEvent.custom("Bare", None),
        ]

    def test_counts_and_leaves(self) -> None:
        """
        `--count` ends with 0 after so many events, each one line of JSON.
        """
        arriving = [PluginEvent.EpochStart(epoch=n) for n in range(3)]
        town = Town(FakeHost(arriving=list(arriving)))

        result = town.command("events", "EpochStart", "--count", "2", "--json")

        assert result.exit_code == 0
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        assert [(line["type"], line["epoch"]) for line in lines] == [
            ("EpochStart", 0),
            ("EpochStart", 1),
        ]

    def test_people_read_one_line_each(self) -> None:
        """
        A line says what, from whom, its number and its fields, and stays one line.
        """
        event = PluginEvent.custom("Forged", {"text": "a\nb\x1b[2J"})
        event.stamp = ("alpha", 7, 1.5)

        result = Town(FakeHost(arriving=[event])).command("events", "--count", "1")

        (line,) = result.stdout.splitlines()
        assert line.isprintable()
        assert 'Forged  alpha #7  data={"text": "a\\nb\\u001b[2J"}' in line

    def test_a_moment_that_no_calendar_has(self) -> None:
        """
        Another client may have forged it; the line comes all the same.
        """
        event: PluginEvent = PluginEvent.EpochStart(1)
        event.stamp = ("app:other", 1, 1e300)

        result = Town(FakeHost(arriving=[event])).command("events", "--count", "1")

        assert result.exit_code == 0
        assert result.stdout == "1e+300  EpochStart  app:other #1  epoch=1\n"

    def test_ctrl_c_is_a_yes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Ctrl-C is how one leaves: status 0, nothing on stderr but what was listened for.
        """

        def interrupt(*event_types: str, maxlen: int) -> None:
            raise KeyboardInterrupt

        town = Town()
        monkeypatch.setattr(town.host, "listen", interrupt)

        result = town.command("events")

        assert (result.exit_code, result.stderr) == (0, "")
        assert town.host.closed

    def test_too_many_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Events that came faster than they print are not dropped in silence.
        """
        monkeypatch.setattr("spiral_host.cli.events.WAITING", 2)
        arriving: list[PluginEvent] = [PluginEvent.EpochStart(epoch=n) for n in range(5)]

        result = Town(FakeHost(arriving=arriving)).command("events", "--count", "2")

        assert result.exit_code == 1
        assert "3 came faster" in result.stderr

    def test_quiet_waits_and_prints_nothing(self) -> None:
        """
        `--quiet --count 1` is a way to wait for an event.
        """
        arriving: list[PluginEvent] = [PluginEvent.EpochStart(1)]

        result = Town(FakeHost(arriving=arriving)).command("events", "--quiet", "--count", "1")

        assert (result.exit_code, result.stdout) == (0, "")

    def test_a_diagram_at_the_end(self) -> None:
        """
        `--mermaid` prints the diagram and nothing else; with `--json` it is text in an object.
        """
        arriving: list[PluginEvent] = [PluginEvent.custom("Go", n) for n in range(2)]
        words = ("events", "--mermaid", "--count", "2")

        drawn = Town(FakeHost(arriving=list(arriving))).command(*words)
        as_json = Town(FakeHost(arriving=list(arriving))).command(*words, "--json")

        assert drawn.exit_code == 0
        assert drawn.stdout.startswith("sequenceDiagram\n")
        assert drawn.stdout.count("bus: Go") == 2
        assert json.loads(as_json.stdout) == {"mermaid": drawn.stdout}


def arriving() -> list[PluginEvent]:
    """Give one event of each sort, stamped a second apart."""
    events = [
        PluginEvent.SystemInit(),
        PluginEvent.EpochEnd(epoch=1, loss=0.5),
        PluginEvent.EventGap("X", 1, 2),
        PluginEvent.custom("Mine", {"a": (1, b"x")}),
    ]
    for number, event in enumerate(events):
        event.stamp = ("alpha", 1, 100.0 + number)
    return events


PUBLISHED = [PluginEvent.EpochEnd(epoch=1, loss=0.5), PluginEvent.custom("Mine", {"a": [1, b"x"]})]


class SleepingClock(Clock):
    """Moves on when somebody sleeps."""

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class TestRecordings:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Record what arrives; give the file."""
        path = tmp_path / "events.jsonl"
        town = Town(FakeHost(arriving=arriving()))
        result = town.command("events", "--count", "4", "--record", str(path))
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) == 4
        assert f"{path}: 4 recorded, 0 dropped\n" in result.stderr
        return path

    def test_what_was_recorded_is_published(self, path: Path) -> None:
        """
        In its order; what only the daemon publishes is left out and counted.
        """
        town = Town()

        result = town.command("replay", str(path))

        assert (result.exit_code, result.stderr) == (0, "")
        assert f"{path}: 2 published, 2 left out" in result.stdout
        assert town.host.asked == PUBLISHED
        assert town.host.closed

    def test_json(self, path: Path) -> None:
        """
        Figures for scripts.
        """
        result = Town().command("replay", str(path), "--json")

        figures = {"file": str(path), "published": 2, "skipped": 2}
        assert json.loads(result.stdout) == figures

    def test_in_its_own_time(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        `--speed 2` takes half the time between the first event and each of the others.
        """
        clock = SleepingClock()
        monkeypatch.setattr("spiral_host.cli.replay.time", clock)
        town = Town()
        times: list[float] = []
        began = clock.now
        monkeypatch.setattr(town.host, "publish", lambda event: times.append(clock.now - began))

        assert town.command("replay", str(path), "--speed", "2").exit_code == 0

        assert times == [0.5, 1.5]

    def test_a_recording_cut_in_the_middle(self, path: Path) -> None:
        """
        What is whole is published and counted; then the line is named, with 1.
        """
        path.write_bytes(path.read_bytes()[:-5])
        town = Town()

        result = town.command("replay", str(path))

        one_line(result, 1, str(path), "line 4", "cut in the middle", "; ")
        assert f"{path}: 1 published, 2 left out" in result.stdout
        assert town.host.asked == PUBLISHED[:1]

    def test_what_cannot_be_published(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The event is named, what was published before it is counted.
        """
        town = Town()

        def refuse(event: PluginEvent) -> None:
            raise UsageError("EpochEnd.loss is a number")

        monkeypatch.setattr(town.host, "publish", refuse)

        one_line(town.command("replay", str(path)), 1, f"{path}: event 2 ", "is a number", "; ")

    def test_nothing_is_written_over(self, path: Path) -> None:
        """
        A recording that is there stays as it is.
        """
        before = path.read_bytes()
        town = Town()

        one_line(town.command("events", "--record", str(path)), 2, str(path), "is there already")

        assert path.read_bytes() == before
        assert town.run_dirs == []

    def test_a_full_disk(self) -> None:
        """
        Events are printed all the same; at the end it says how many are not in the file.
        """
        town = Town(FakeHost(arriving=arriving()))

        result = town.command("events", "--count", "4", "--record", "/dev/full")

        assert result.exit_code == 1
        assert len(result.stdout.splitlines()) == 4
        assert "/dev/full: 0 recorded, 4 dropped\n" in result.stderr
        assert (
            "4 were not recorded ([Errno 28] No space left on device); make room" in result.stderr
        )

    def test_a_file_that_cannot_be_made(self, tmp_path: Path) -> None:
        """
        It is one line with the file's name.
        """
        path = tmp_path / "no" / "events.jsonl"

        one_line(Town().command("events", "--record", str(path)), 1, str(path), "; ")
