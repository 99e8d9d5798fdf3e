"""Commands about the daemon itself: run, start, stop, status."""

from collections.abc import Sequence
from contextlib import closing, suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

import click

from protocol.errors import NoDaemon
from spiral_host.cli.door import DaemonProcess, Target
from spiral_host.cli.failure import Failure, Status
from spiral_host.cli.options import common, daemon_config, daemon_options, existing, run_dir
from spiral_host.cli.outcomes import Outcome, outcomes, report
from spiral_host.cli.output import duration, say, say_json, say_table
from spiral_host.rundir import DAEMON_LOG, LOGS, STORE

if TYPE_CHECKING:
    from spiral_host import Host

START_DEADLINE: Final = 15.0
"""Seconds until a new daemon answers; it takes a tenth of one, a busy machine takes more."""

TRY: Final = 2.5
"""Seconds that one attempt to connect may take; a daemon that takes over needs up to two."""

OWN: Final = "spiral-host: "
"""How the daemon's own lines begin; others are the interpreter's or a library's."""

PAUSE: Final = 0.02
"""Seconds between attempts that failed at once."""

ALREADY: Final = 1.0
"""Seconds in which a daemon that runs already has to answer `start`."""


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@daemon_options
@run_dir
@click.pass_obj
def run(target: Target, /, paths: Sequence[str], **choices: object) -> int:
    """Be the daemon, here, until Ctrl-C; load the plugins at PATH."""
    return target.door.run(daemon_config(target, existing(paths), choices))


@click.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@daemon_options
@common
@click.pass_obj
def start(target: Target, /, paths: Sequence[str], *, as_json: bool, **choices: object) -> int:
    """Start a daemon in the background and load the plugins at PATH.

    Returns when every plugin is ready or has failed, and says which failed and why. Where a
    daemon was killed, the new one takes over: its plugins go on in their processes.
    """
    files = existing(paths)
    config = daemon_config(target, (), choices)
    _refuse_second(target)
    takes_over = (target.run_dir / STORE).exists()
    process = target.door.start(config)
    try:
        with closing(_first_contact(target, process)) as host:
            profile = _in_force(host)
            found = _bring_up(host, files)
    except BaseException:
        if not takes_over:
            _take_back(process)
        raise
    if not as_json:
        say(f"spiral-host: running, pid {process.pid}, in {target.run_dir}, sandbox {profile}")
    return report(found, as_json=as_json)


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to wait for its end.",
)
@common
@click.pass_obj
def stop(target: Target, timeout: float, *, as_json: bool) -> None:
    """Stop the daemon and every plugin, in order."""
    with closing(target.connect()) as host:
        pid = _pid(host)
        wait_ended = target.door.watch(pid)
        host.shutdown()
    if not wait_ended(timeout):
        text = f"daemon pid {pid}: still stopping after {timeout:g} s; wait, or end that process"
        raise Failure(text)
    if as_json:
        say_json({"run_dir": str(target.run_dir), "pid": pid, "stopped": True})
    else:
        say(f"spiral-host: stopped, pid {pid}")


@click.command()
@common
@click.pass_obj
def status(target: Target, *, as_json: bool) -> None:
    """Say whether a daemon runs, and what is in force."""
    with closing(target.connect()) as host:
        figures = host.status()
    if as_json:
        say_json(figures, indent=2)
        return
    shown = dict(figures)
    if isinstance(uptime := shown.pop("uptime_s", None), int | float):
        shown["uptime"] = duration(uptime)
    say_table(("what", "is"), [(name, _in_words(figure)) for name, figure in shown.items()])


def _refuse_second(target: Target) -> None:
    with suppress(NoDaemon), closing(target.connect(ALREADY)) as host:
        raise _already_runs(target, _pid(host))


def _bring_up(host: "Host", files: Sequence[str]) -> list[Outcome]:
    """Load what is not there yet; what a killed daemon had loaded is, and stays."""
    there = {info.path for info in host.list_plugins()}
    results = host.load(files) if files else []
    new = [result for result in results if result.ok or result.path not in there]
    return outcomes(new, host.initialize_all())


def _in_force(host: "Host") -> str:
    sandbox = host.status()["sandbox"]
    lacks = ", no ".join(sandbox.get("degraded", ()))
    return f"{sandbox['profile']}, degraded: no {lacks}" if lacks else str(sandbox["profile"])


def _first_contact(target: Target, process: DaemonProcess) -> "Host":
    """Connect to the daemon just started, watching that it does not end instead."""
    deadline = monotonic() + START_DEADLINE
    while monotonic() < deadline:
        with suppress(NoDaemon):
            host = target.connect(TRY)
            if (pid := _pid(host)) == process.pid:
                return host
            host.close()
            raise _already_runs(target, pid)
        if (ended := process.wait_ended(PAUSE)) is not None:
            raise _ended(process.words(), ended)
    what = f"daemon pid {process.pid}: no answer after {START_DEADLINE:g} s"
    what += f"; read {target.run_dir / LOGS / DAEMON_LOG}"
    raise Failure(what)


def _take_back(process: DaemonProcess) -> None:
    """End a daemon whose start did not work out; a second Ctrl-C ends its plugins by force."""
    process.terminate()
    try:
        process.wait_ended(START_DEADLINE)
    except KeyboardInterrupt:
        process.terminate()
        raise


def _already_runs(target: Target, pid: int) -> Failure:
    cure = "load into it with: spiral-host load PATH, or end it with: spiral-host stop"
    return Failure(f"{target.run_dir}: a daemon (pid {pid}) already runs here; {cure}")


def _ended(lines: Sequence[str], status: int) -> Failure:
    """Quote why a daemon ended before it answered: the last error line that it wrote."""
    own = [line for line in lines if line.startswith(OWN)]
    if own and status > 0:
        usage = status == Status.USAGE
        return Failure(own[-1].removeprefix(OWN), Status.USAGE if usage else Status.NO)
    last = f": {lines[-1]}" if lines else ""
    cure = "see all it says with: spiral-host run"
    return Failure(f"daemon: ended with status {status}{last}; {cure}")


def _pid(host: "Host") -> int:
    return int(str(host.status()["pid"]))


def _in_words(figure: object) -> object:
    match figure:
        case dict():
            return ", ".join(f"{name} {_in_words(part)}" for name, part in figure.items())
        case list() | tuple():
            return ", ".join(str(part) for part in figure) or "none"
        case bool():
            return "yes" if figure else "no"
        case _:
            return figure


COMMANDS: Final = (run, start, stop, status)
