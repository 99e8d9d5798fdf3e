"""The real command line, in processes of its own, against a real daemon."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import pytest

from tests.hosts import eventually

DEADLINE = 60.0
"""Seconds for any one command; none needs one of them on a free machine."""

SOURCES = Path(__file__).parents[2]

CALC = """
from plugin_worker import Plugin, PluginCapability, PluginMetadata


class Calc(Plugin):
    def metadata(self):
        return PluginMetadata("calc", "1.2.0").with_capability(PluginCapability.Operators)

    def on_load(self, ctx):
        ctx.register_service("calc", Service())
        ctx.log.info("calc \\x1b[31m is up")

    def on_event(self, event, ctx):
        ctx.log.info(event.type)


class Service:
    def add(self, a, b):
        return a + b

    def echo(self, value):
        return value

    def raw(self):
        return b"\\x00\\xff"

    def array(self):
        import numpy as np

        return np.arange(4.0).reshape(2, 2)

    def divide(self, a, b):
        return a / b

    def _secret(self):
        return 1
"""

BROKEN = """
from plugin_worker import Plugin, PluginMetadata


class Broken(Plugin):
    def metadata(self):
        return PluginMetadata("broken", "1.0.0")

    def on_load(self, ctx):
        raise ValueError("not \\x1b[2J today")
"""


STUBBORN = """
import time

from plugin_worker import Plugin, PluginMetadata


class Stubborn(Plugin):
    def metadata(self):
        return PluginMetadata("stubborn", "1.0.0")

    def on_load(self, ctx):
        self.log = ctx.log
        self.log.info("loaded")

    def on_unload(self, ctx):
        self.log.info("unloading")
        while True:
            time.sleep(60)
"""


class Shell:
    """Types commands at one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.environment = {**os.environ, "SPIRAL_HOST_RUN_DIR": str(run_dir)}

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "spiral_host", *words],
            capture_output=True,
            check=False,
            cwd=SOURCES,
            env=self.environment,
            text=True,
            timeout=DEADLINE,
        )

    def answer(self, *words: str) -> object:
        """Give the JSON that a command prints when it says yes."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refusal(self, status: int, *words: str) -> str:
        """Give the one line on stderr of a command that says no, and nothing else."""
        done = self(*words)
        assert done.returncode == status, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("spiral-host: ")
        assert line.isprintable()
        assert done.stdout == ""
        return line

    def pid_of(self, plugin_id: str) -> int:
        """Ask which process a plugin is in."""
        plugins = self.answer("plugins")
        assert isinstance(plugins, list)
        (pid,) = [plugin["pid"] for plugin in plugins if plugin["id"] == plugin_id]
        assert isinstance(pid, int)
        return pid

    def log_of(self, plugin_id: str) -> str:
        """Read what a plugin has written, without a command."""
        path = self.run_dir / "logs" / f"{plugin_id}.log"
        return path.read_text() if path.exists() else ""

    @contextmanager
    def open(self, *words: str) -> "Iterator[subprocess.Popen[str]]":
        """Run a command that goes on; whatever happens it ends with the block."""
        with subprocess.Popen(
            [sys.executable, "-m", "spiral_host", *words],
            cwd=SOURCES,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def plugin_file(folder: Path, name: str, source: str) -> str:
    """Write a plugin of one file; give its path."""
    path = folder / f"{name}.py"
    path.write_text(source)
    return str(path)


def plugin_folder(folder: Path, name: str, table: str) -> str:
    """Write a plugin folder whose class is not there; give its path."""
    path = folder / name
    path.mkdir()
    (path / "plugin.toml").write_text(f'[plugin]\nentry = "plugin:Missing"\n{table}\n')
    (path / "plugin.py").write_text("")
    return str(path)


def line_of(stream: IO[str] | None) -> str:
    """Read one line of a running command; pytest's own deadline ends a command that is mute."""
    assert stream is not None
    return stream.readline()


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended may wait a while for the machine's init."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def shell() -> Iterator[Shell]:
    """Type at a run directory whose path is short enough for a socket; nobody serves it yet."""
    with TemporaryDirectory(prefix="sh-") as folder:
        shell = Shell(Path(folder) / "run")
        yield shell
        if shell("stop").returncode != 3:
            assert shell("status").returncode == 3


@pytest.fixture
def running(shell: Shell, tmp_path: Path) -> Shell:
    """Type at a daemon with one good plugin."""
    done = shell("start", plugin_file(tmp_path, "calc", CALC), "--best-effort")
    assert done.returncode == 0, done.stderr
    assert "calc: ready, pid " in done.stdout
    return shell


class TestWithoutADaemon:
    @pytest.mark.parametrize(
        "words",
        [("status",), ("plugins",), ("call", "calc.add", "1", "2"), ("stop",), ("events",)],
        ids=lambda words: words[0],
    )
    def test_status_is_3(self, shell: Shell, words: tuple[str, ...]) -> None:
        """
        Nobody there is status 3 and a line that says how to start one.
        """
        line = shell.refusal(3, *words)

        assert str(shell.run_dir) in line
        assert "spiral-host start" in line

    def test_help_needs_no_zeromq(self) -> None:
        """
        `--help` answers without paying for what it does not use.
        """
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "spiral_host", "--help"],
            capture_output=True,
            check=True,
            cwd=SOURCES,
            text=True,
            timeout=DEADLINE,
        )

        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "click" in imported
        assert not imported & {"zmq", "rich", "numpy", "msgpack", "psutil", "sqlite3"}


class TestLife:
    def test_from_start_to_stop(self, running: Shell) -> None:
        """
        Status, plugins, health and services describe the daemon; after stop nothing is left.
        """
        figures = running.answer("status")
        assert isinstance(figures, dict)
        pids = [figures["pid"], figures["node_pid"], running.pid_of("calc")]
        plugins = running.answer("plugins")
        assert isinstance(plugins, list)
        keys = {"id", "version", "state", "pid", "restarts", "capabilities"}
        assert keys <= set(plugins[0])
        assert plugins[0]["state"] == "ready"
        assert plugins[0]["capabilities"] == ["Operators"]
        assert running("health").stdout.splitlines()[1].startswith("calc ")
        services = running.answer("services")
        assert isinstance(services, list)
        assert services[0]["name"] == "calc"
        assert "_secret" not in services[0]["methods"]

        assert running("stop").returncode == 0

        assert [pid for pid in pids if is_alive(pid)] == []
        assert running("status").returncode == 3

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_foreground_ends_with_a_signal(
        self, shell: Shell, tmp_path: Path, number: signal.Signals
    ) -> None:
        """
        `run` says that it serves, serves until a signal, leaves with 0 and nothing behind.
        """
        path = plugin_file(tmp_path, "calc", CALC)
        # Under nohup it would be ignored, as the daemon is meant to do then.
        inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with shell.open("run", path, "--best-effort") as daemon:
            signal.signal(signal.SIGHUP, inherited)
            assert str(shell.run_dir) in line_of(daemon.stderr)
            daemon.send_signal(number)
            daemon.communicate(timeout=DEADLINE)

            assert daemon.returncode == 0
        assert not shell.run_dir.exists(), [p.read_text() for p in shell.run_dir.rglob("*")]

    def test_a_second_ctrl_c_waits_for_nobody(self, shell: Shell, tmp_path: Path) -> None:
        """
        A plugin that does not leave is ended with the second SIGINT, and leaves nothing behind.
        """
        path = plugin_file(tmp_path, "stubborn", STUBBORN)
        with shell.open("run", path, "--best-effort") as daemon:
            line_of(daemon.stderr)
            eventually(lambda: "loaded" in shell.log_of("stubborn"))
            plugin = shell.pid_of("stubborn")
            daemon.send_signal(signal.SIGINT)
            eventually(lambda: "unloading" in shell.log_of("stubborn"))
            daemon.send_signal(signal.SIGINT)
            daemon.communicate(timeout=DEADLINE)

            assert daemon.returncode == 0
        assert not is_alive(plugin)
        assert not shell.run_dir.exists(), [p.read_text() for p in shell.run_dir.rglob("*")]

    def test_foreground_says_what_failed(self, shell: Shell, tmp_path: Path) -> None:
        """
        A plugin that cannot be loaded is a line on stderr with its traceback; the other serves,
        and has heard that the system is up.
        """
        paths = [plugin_file(tmp_path, "broken", BROKEN), plugin_file(tmp_path, "calc", CALC)]
        with shell.open("run", *paths, "--best-effort") as daemon:
            line_of(daemon.stderr)
            line = line_of(daemon.stderr)
            assert line.startswith("spiral-host: broken: ")
            assert line.rstrip("\n").isprintable()
            assert line_of(daemon.stderr) == "Traceback (most recent call last):\n"
            eventually(lambda: "SystemInit" in shell.log_of("calc"))
            assert shell.answer("call", "calc.add", "1", "2") == 3
            daemon.terminate()
            daemon.communicate(timeout=DEADLINE)

            assert daemon.returncode == 0

    def test_a_killed_daemon_is_taken_over(self, running: Shell, tmp_path: Path) -> None:
        """
        `start` after SIGKILL finds the plugins in their processes, with the same words as before.
        """
        figures = running.answer("status")
        assert isinstance(figures, dict)
        calc = running.pid_of("calc")
        os.kill(figures["pid"], signal.SIGKILL)
        eventually(lambda: not is_alive(figures["pid"]))
        assert "takes over" in running.refusal(3, "status")

        done = running("start", str(tmp_path / "calc.py"), "--best-effort")

        assert done.returncode == 0, done.stderr
        assert f"calc: ready, pid {calc}\n" in done.stdout
        assert running.answer("call", "calc.add", "1", "2") == 3

    def test_load_restart_unload(self, running: Shell, tmp_path: Path) -> None:
        """
        A plugin joins, comes back in a new process, and leaves; its neighbour stays.
        """
        calc = running.pid_of("calc")
        other = CALC.replace('"calc"', '"other"')

        assert running("load", plugin_file(tmp_path, "other", other)).returncode == 0
        before = running.pid_of("other")
        assert running("restart", "other").returncode == 0
        assert running.pid_of("other") != before
        assert running.answer("call", "other.add", "1", "2") == 3
        assert running("unload", "other").returncode == 0

        assert "nobody offers it" in running.refusal(1, "call", "other.add", "1", "2")
        assert running.pid_of("calc") == calc

    def test_a_failing_plugin_is_named_and_stops_nobody(self, shell: Shell, tmp_path: Path) -> None:
        """
        `start` leaves with 1, says why with the plugin's traceback, and the other one serves.
        """
        paths = [plugin_file(tmp_path, "broken", BROKEN), plugin_file(tmp_path, "calc", CALC)]

        done = shell("start", *paths, "--best-effort")

        assert done.returncode == 1
        assert "calc: ready" in done.stdout
        first, *trace = done.stderr.splitlines()
        assert first.startswith("spiral-host: broken: ")
        assert "ValueError" in first
        assert "Traceback (most recent call last):" in trace
        assert "\x1b" not in done.stderr
        assert shell.answer("call", "calc.add", "1", "2") == 3

    def test_logs_are_kept_and_harmless(self, running: Shell) -> None:
        """
        What a plugin logs can be read, with its escape sequences shown and not obeyed.
        """
        eventually(lambda: "is up" in running.log_of("calc"))

        done = running("logs", "calc")

        assert done.returncode == 0
        assert "calc \\x1b[31m is up" in done.stdout
        assert "\x1b" not in done.stdout


class TestCall:
    @pytest.mark.parametrize(
        ("words", "result"),
        [
            (("calc.add", "1", "-2"), -1),
            (("calc.echo", "word"), "word"),
            (("calc.echo", '{"a": [1, null, "λ"]}'), {"a": [1, None, "λ"]}),
            (("calc.raw",), {"base64": "AP8="}),
            (("calc.array",), [[0.0, 1.0], [2.0, 3.0]]),
        ],
        ids=["number", "word", "object", "bytes", "array"],
    )
    @pytest.mark.parametrize("json_flag", [("--json",), ()], ids=["json", "plain"])
    def test_prints_json(
        self, running: Shell, words: tuple[str, ...], result: object, json_flag: tuple[str, ...]
    ) -> None:
        """
        Arguments are JSON or bare words, the result is JSON, with `--json` or without.
        """
        done = running("call", *words, *json_flag)

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == result

    def test_refusals(self, running: Shell) -> None:
        """
        Each wrong call gets one clear line and its status, and disturbs nothing.
        """
        before = running.pid_of("calc")

        assert "calc" in running.refusal(1, "call", "nobody.add", "1", "2")
        assert "add" in running.refusal(1, "call", "calc.nothing")
        assert "add" in running.refusal(1, "call", "calc._secret")
        assert "argument 1" in running.refusal(2, "call", "calc.echo", '{"a":')
        assert "SERVICE.METHOD" in running.refusal(2, "call", "calc")
        assert "ZeroDivisionError" in running.refusal(1, "call", "calc.divide", "1", "0")

        assert running.answer("call", "calc.add", "1", "2") == 3
        assert running.pid_of("calc") == before

    def test_traceback_when_asked(self, running: Shell) -> None:
        """
        `--traceback` adds the plugin's own frames.
        """
        done = running("call", "calc.divide", "1", "0", "--traceback")

        assert done.returncode == 1
        assert "return a / b" in done.stderr


class TestEvents:
    def test_what_is_published_is_seen(self, running: Shell) -> None:
        """
        `events` prints one JSON object a line at once, stamped, and leaves after `--count`.
        """
        with running.open("events", "EpochEnd", "Mine", "--count", "2", "--json") as events:
            line_of(events.stderr)  # it listens now
            assert running("publish", "EpochEnd", '{"epoch": 1, "loss": 0.5}').returncode == 0
            first = json.loads(line_of(events.stdout))
            assert running("publish", "Other", "1").returncode == 0
            assert running("publish", "Mine", '{"text": "a\\nb"}').returncode == 0
            rest, _ = events.communicate(timeout=DEADLINE)

        assert (first["type"], first["epoch"], first["loss"]) == ("EpochEnd", 1, 0.5)
        assert {"source", "seq", "ts"} <= set(first)
        second = json.loads(rest)
        assert (second["type"], second["data"]) == ("Mine", {"text": "a\nb"})
        assert events.returncode == 0

    def test_ctrl_c_is_how_one_leaves(self, running: Shell) -> None:
        """
        SIGINT ends `events` with 0 and without a traceback.
        """
        with running.open("events") as events:
            line_of(events.stderr)
            events.send_signal(signal.SIGINT)
            _, said = events.communicate(timeout=DEADLINE)

        assert (events.returncode, said) == (0, "")

    def test_it_ends_with_its_daemon(self, running: Shell) -> None:
        """
        When the daemon stops, `events` says so with 3 instead of waiting for ever.
        """
        with running.open("events", "Never") as events:
            line_of(events.stderr)
            assert running("stop").returncode == 0
            _, said = events.communicate(timeout=DEADLINE)

        assert events.returncode == 3
        assert said.startswith("spiral-host: ")

    def test_reserved_types_are_refused(self, running: Shell) -> None:
        """
        Only the daemon says that the system starts or stops.
        """
        for event_type in ("SystemInit", "SystemShutdown", "PluginLoaded", "PluginUnloaded"):
            assert event_type in running.refusal(2, "publish", event_type)


BAD_PLUGINS = {
    "no table": ("[plugin\n", "plugin.toml"),
    "no id": ('version = "1"', "id"),
    "bad id": ('id = "../x"\nversion = "1"', "../x"),
    "long id": (f'id = "{"x" * 300}"\nversion = "1"', "xxx"),
    "control characters": ('id = "a\\u001b[2J"\nversion = "1"', "\\x1b"),
    "missing dependency": ('id = "a"\nversion = "1"\ndependencies.nobody = ">=1"', "nobody"),
    "no such class": ('id = "a"\nversion = "1"', "Missing"),
}
"""What stands below `[plugin]`, and a word that the refusal must hold."""


class TestBadInput:
    @pytest.mark.parametrize(
        ("table", "named"),
        BAD_PLUGINS.values(),
        ids=[name.replace(" ", "-") for name in BAD_PLUGINS],
    )
    def test_a_bad_plugin_is_a_no(
        self, running: Shell, tmp_path: Path, table: str, named: str
    ) -> None:
        """
        A plugin that cannot be loaded is status 1 and a line that names what is wrong.
        """
        done = running("load", plugin_folder(tmp_path, "bad", table))

        assert done.returncode == 1
        line = done.stderr.splitlines()[0]
        assert line.startswith("spiral-host: ")
        assert named in line
        assert line.isprintable()
        assert running.answer("call", "calc.add", "1", "2") == 3

    def test_two_plugins_with_one_id(self, running: Shell, tmp_path: Path) -> None:
        """
        The second is refused and the first goes on in its process.
        """
        before = running.pid_of("calc")
        (tmp_path / "twin").mkdir()

        line = running.refusal(1, "load", plugin_file(tmp_path / "twin", "twin", CALC))

        assert "calc" in line
        assert running.pid_of("calc") == before

    def test_a_cycle_is_told(self, running: Shell, tmp_path: Path) -> None:
        """
        Plugins that need each other are both refused.
        """
        paths = [
            plugin_folder(tmp_path, one, f'id = "{one}"\nversion = "1.0"\ndependencies.{two} = "*"')
            for one, two in (("ping", "pong"), ("pong", "ping"))
        ]

        done = running("load", *paths)

        assert done.returncode == 1
        assert "ping" in done.stderr
        assert "pong" in done.stderr
        assert running.answer("call", "calc.add", "1", "2") == 3

    def test_a_path_that_does_not_exist_starts_nothing(self, shell: Shell) -> None:
        """
        `start` with a wrong path is 2 before any daemon exists.
        """
        assert "no/such" in shell.refusal(2, "start", "no/such")
        assert not shell.run_dir.exists(), [p.read_text() for p in shell.run_dir.rglob("*")]

    def test_a_daemon_that_refuses_to_start_leaves_nothing(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        """
        Not even the folder in which it has said why.
        """
        settings = tmp_path / "settings"
        settings.mkdir(mode=0o700)
        (settings / "spiral.toml").write_text("broken = [")
        assert "is no TOML" in shell.refusal(2, "start", "--config-dir", str(settings))
        assert not shell.run_dir.exists()

    def test_names_of_no_plugin(self, running: Shell) -> None:
        """
        What can be no id is wrong usage; what could be one but is not there is a no.
        """
        for bad in ("../x", "x" * 300, "a\x1b[2J", ""):
            running.refusal(2, "restart", bad)
        for command in ("restart", "unload", "logs"):
            assert "nobody" in running.refusal(1, command, "nobody")

    def test_a_second_daemon_is_refused(self, running: Shell) -> None:
        """
        Neither `start` nor `run` takes a run directory that is served; the first one goes on.
        """
        before = running.answer("status")
        assert isinstance(before, dict)

        assert "spiral-host stop" in running.refusal(1, "start")
        second = running("run", "--best-effort")

        assert second.returncode == 1
        assert second.stderr.startswith("spiral-host: ")
        after = running.answer("status")
        assert isinstance(after, dict)
        assert after["pid"] == before["pid"]
        assert running.answer("call", "calc.add", "1", "2") == 3

    def test_a_run_directory_open_to_others(self, shell: Shell) -> None:
        """
        It is refused as it is: neither used nor changed.
        """
        shell.run_dir.mkdir(mode=0o755)
        for command in ("start", "run"):
            assert "chmod 700" in shell.refusal(2, command, "--best-effort")

        assert shell.run_dir.stat().st_mode & 0o777 == 0o755
        assert list(shell.run_dir.iterdir()) == []

    def test_a_run_directory_too_long_for_a_socket(self, shell: Shell) -> None:
        """
        The limit is told before anything is started, with the directory's name.
        """
        too_long = shell.run_dir.with_name("x" * 120)

        done = shell("start", "--run-dir", str(too_long), "--best-effort")

        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "xxx" in done.stderr
