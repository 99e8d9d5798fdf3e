"""Gather the commands under `spiral-host` and turn every error into one line and a status.

Exit status: 0 yes, 1 the answer is no or the call failed, 2 wrong usage, 3 no daemon;
130 when Ctrl-C or SIGTERM ends a command that had not done its work.
"""

import io
import signal
import sys
from typing import Any, Final, NoReturn

import click

from spiral_host.cli import calls, daemon, doctor, events, permissions, plugins, replay, report
from spiral_host.cli.door import REAL, Target
from spiral_host.cli.failure import Status, explain, show
from spiral_host.release import host_version

INTERRUPTED: Final = 130
"""128 + SIGINT, as shells report it."""


class OneLineErrors(click.Group):
    """A group whose commands never end in a traceback or in click's own error layout."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401 - click's own signature
        """Run one command line and leave with its exit status."""
        try:
            status = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            status = Status.USAGE
        except click.Abort:
            status = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last resort; people never see a traceback
            failure = explain(error)
            show(failure)
            status = failure.status
        sys.exit(status if isinstance(status, int) else Status.YES)


def _say_version(ctx: click.Context, _parameter: click.Parameter, asked: object) -> None:
    if not asked or ctx.resilient_parsing:
        return
    click.echo(f"spiral-host {host_version()}")
    ctx.exit()


@click.group(cls=OneLineErrors, name="spiral-host", no_args_is_help=True)
@click.option(
    "--run-dir",
    envvar="SPIRAL_HOST_RUN_DIR",
    metavar="DIR",
    help="Which daemon: the directory it runs in.  [env: SPIRAL_HOST_RUN_DIR]",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_say_version,
    help="Show the version and exit.",
)
@click.pass_context
def app(ctx: click.Context, run_dir: str | None) -> None:
    """Host plugins, each in a sandboxed process of its own."""
    ctx.obj = Target(ctx.obj or REAL, run_dir)


for _module in (daemon, plugins, permissions, report, calls, events, replay, doctor):
    for _command in _module.COMMANDS:
        app.add_command(_command)


def main() -> NoReturn:
    """Be the console script; what the terminal's encoding lacks is printed as an escape."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # undo, as after Ctrl-C
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app.main(prog_name="spiral-host")
