"""The options and arguments that commands share, so that they read the same everywhere."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from spiral_host.cli.door import Target
from spiral_host.cli.failure import Failure, Status
from spiral_host.config import ALONE_S, MIN_ALONE_S, SANDBOXES, DaemonConfig

Command = TypeVar("Command", bound=Callable[..., object])


def common(command: Command) -> Command:
    """Add what every command that prints takes: `--run-dir` and `--json`."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
    return run_dir(command)


def run_dir(command: Command) -> Command:
    """Let `--run-dir` stand behind the command's name as well as before it."""
    return click.option(
        "--run-dir",
        metavar="DIR",
        expose_value=False,
        callback=_retarget,
        help="Which daemon: the directory it runs in.",
    )(command)


def daemon_options(command: Command) -> Command:
    """Add what a new daemon is told: how to sandbox, where plugins keep their files, and so on."""
    command = click.option(
        "--alone",
        "alone_s",
        type=click.FloatRange(min=MIN_ALONE_S),
        default=ALONE_S,
        show_default=True,
        metavar="SECONDS",
        help="How long plugins go on when the daemon is gone, before they stop in order.",
    )(command)
    command = click.option(
        "--data-dir",
        type=click.Path(file_okay=False),
        metavar="DIR",
        help="Where plugins keep their files.  [default: in the run directory]",
    )(command)
    command = click.option(
        "--config-dir",
        type=click.Path(file_okay=False),
        metavar="DIR",
        help="Where spiral.toml and the grants lie.  [default: among your settings]",
    )(command)
    command = click.option(
        "--best-effort/--enforce",
        default=None,
        help="Whether to start where a layer of the sandbox is missing.  [default: enforce]",
    )(command)
    return click.option(
        "--sandbox",
        type=click.Choice(SANDBOXES),
        metavar="PROFILE",
        help=f"What confines plugins: {', '.join(SANDBOXES)}.  [default: {SANDBOXES[0]}]",
    )(command)


def daemon_config(
    target: Target, plugins: Sequence[str], choices: Mapping[str, Any]
) -> DaemonConfig:
    """Build what a new daemon is told; it outlives this command's working directory.

    Args:
        choices: What `daemon_options` took in, by name.

    Raises:
        UsageError: No daemon can run there.
    """
    data_dir, config_dir = choices["data_dir"], choices["config_dir"]
    return DaemonConfig(
        run_dir=target.run_dir,
        data_dir=Path(data_dir).absolute() if data_dir else None,
        config_dir=Path(config_dir).absolute() if config_dir else None,
        sandbox=choices["sandbox"] or "",
        best_effort=choices["best_effort"],
        plugins=tuple(plugins),
        alone_s=choices["alone_s"],
    )


def existing(paths: Sequence[str]) -> list[str]:
    """Give the paths absolute.

    Raises:
        Failure: One of them does not exist.
    """
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises on what no path can be
            what = f"{path or repr(path)}: no such file or folder; check the path"
            raise Failure(what, Status.USAGE)
    return [str(Path(path).absolute()) for path in paths]


def _retarget(ctx: click.Context, _parameter: click.Parameter, given: str | None) -> None:
    target = ctx.find_object(Target)
    if target is not None and given:
        target.given = given
