"""Commands about plugins: plugins, health, load, unload, restart, services, logs."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

import click

from protocol.errors import UsageError
from protocol.names import parse_plugin_id
from spiral_host.cli.door import Target
from spiral_host.cli.failure import Failure, Status
from spiral_host.cli.options import common, existing
from spiral_host.cli.outcomes import READY, outcomes, report
from spiral_host.cli.output import duration, megabytes, say, say_json, say_list, say_table, seconds

if TYPE_CHECKING:
    from spiral_host import Host


@click.command()
@common
@click.pass_obj
def plugins(target: Target, *, as_json: bool) -> None:
    """List the plugins."""
    with closing(target.connect()) as host:
        infos = host.list_plugins()
    if as_json:
        say_list([info.to_dict() for info in infos])
        return
    columns = ("id", "version", "state", "pid", "restarts", "capabilities", "reason")
    say_table(
        columns,
        [
            (i.id, i.version, i.state, i.pid, i.restarts, ", ".join(i.capabilities), i.reason)
            for i in infos
        ],
    )


@click.command()
@common
@click.pass_obj
def health(target: Target, *, as_json: bool) -> None:
    """Show what each plugin uses and how far behind it is with its events."""
    with closing(target.connect()) as host:
        infos = host.health()
    if as_json:
        say_list([info.to_dict() for info in infos])
        return
    used = ("id", "state", "pid", "memory", "cpu")
    columns = (*used, "calls", "errors", "lag", "missed", "restarts", "uptime")
    say_table(
        columns,
        [
            (
                *(i.id, i.state, i.pid, megabytes(i.memory), seconds(i.cpu)),
                *(i.calls, i.errors, i.lag, i.missed, i.restarts, duration(i.uptime_s)),
            )
            for i in infos
        ],
    )


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@common
@click.pass_obj
def load(target: Target, paths: Sequence[str], *, as_json: bool) -> int:
    """Load the plugins at PATH, those they depend on first."""
    files = existing(paths)
    with closing(target.connect()) as host:
        results = host.load(files)
        asked = {result.id for result in results}
        infos = [info for info in host.list_plugins() if info.id in asked]
    return report(outcomes(results, infos), as_json=as_json)


@click.command()
@click.argument("plugin_id", metavar="ID")
@common
@click.pass_obj
def unload(target: Target, plugin_id: str, *, as_json: bool) -> None:
    """Let a plugin finish what it has, and take it out."""
    with asked_of(target, plugin_id) as host:
        host.unload(plugin_id)
    if as_json:
        say_json({"id": plugin_id, "unloaded": True})
    else:
        say(f"{plugin_id}: unloaded")


@click.command()
@click.argument("plugin_id", metavar="ID")
@common
@click.pass_obj
def restart(target: Target, plugin_id: str, *, as_json: bool) -> int:
    """Start a plugin again in a fresh process."""
    with asked_of(target, plugin_id) as host:
        host.restart(plugin_id)
        info = host.get(plugin_id)
    if as_json:
        say_json(info.to_dict(), indent=2)
        return Status.YES if info.state == READY else Status.NO
    return report(outcomes([], [info]), as_json=False)


@click.command()
@common
@click.pass_obj
def services(target: Target, *, as_json: bool) -> None:
    """List the services that can be called, and who offers them."""
    with closing(target.connect()) as host:
        found = host.list_services()
    if as_json:
        say_list(
            [{"name": s.name, "plugin_id": s.plugin_id, "methods": list(s.methods)} for s in found]
        )
        return
    rows = [(service.name, service.plugin_id, ", ".join(service.methods)) for service in found]
    say_table(("service", "plugin", "methods"), rows)


@click.command()
@click.argument("plugin_id", metavar="ID")
@click.option("--lines", type=click.IntRange(min=1), default=100, show_default=True)
@common
@click.pass_obj
def logs(target: Target, plugin_id: str, lines: int, *, as_json: bool) -> None:
    """Show the last lines that a plugin wrote."""
    with asked_of(target, plugin_id) as host:
        written = host.logs(plugin_id, lines)
    if as_json:
        say_list(written)
        return
    for line in written:
        say(line)


@contextmanager
def asked_of(target: Target, plugin_id: str) -> "Iterator[Host]":
    """Connect for a question about one plugin: a bad id is wrong usage, an unknown one a no."""
    parse_plugin_id(plugin_id)
    with closing(target.connect()) as host:
        try:
            yield host
        except UsageError as error:
            raise Failure(str(error)) from error


COMMANDS: Final = (plugins, health, load, unload, restart, services, logs)
