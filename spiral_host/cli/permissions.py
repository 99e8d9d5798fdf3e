"""Commands about what plugins may do: permissions, grant, revoke."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final

import click

from protocol.permissions import Permissions, missing
from spiral_host.cli.arguments import parse_granted
from spiral_host.cli.door import Target
from spiral_host.cli.failure import Failure, Status, show
from spiral_host.cli.options import common
from spiral_host.cli.outcomes import READY
from spiral_host.cli.output import duration, say, say_heading, say_json, say_list, say_table
from spiral_host.cli.plugins import asked_of

if TYPE_CHECKING:
    from spiral_host import PluginPermissions


@click.command()
@click.argument("plugin_id", required=False, metavar="[ID]")
@common
@click.pass_obj
def permissions(target: Target, plugin_id: str | None, *, as_json: bool) -> None:
    """Show what a plugin asks for, was granted and may do; or, of every plugin, what it lacks."""
    if plugin_id is None:
        with closing(target.connect()) as host:
            _say_all(host.list_permissions(), as_json=as_json)
        return
    with asked_of(target, plugin_id) as host:
        found = host.permissions(plugin_id)
    if as_json:
        say_json(found.to_dict(), indent=2)
    else:
        _say_page(found)


@click.command()
@click.argument("plugin_id", metavar="ID")
@click.argument("granted", nargs=-1, metavar="[PERMISSION]...")
@click.option("--nothing", is_flag=True, help="Let it run with what every plugin gets.")
@click.option(
    "--digest",
    metavar="DIGEST",
    help="Only if it still asks for what `spiral-host permissions ID` showed with this digest.",
)
@common
@click.pass_obj
def grant(
    target: Target,
    plugin_id: str,
    granted: Sequence[str],
    *,
    nothing: bool,
    digest: str | None,
    as_json: bool,
) -> int:
    """Grant a plugin all that it asks for, or just each PERMISSION, and let it start.

    What that is, and where its paths lead, is printed first; nothing else is granted. To read it
    in peace, look at `spiral-host permissions ID` and give the digest that it ends with.

    A PERMISSION is a word of its manifest: gpu, network=443, read=/srv/images.
    """
    if nothing and granted:
        raise Failure("--nothing: names permissions all the same; leave one out", Status.USAGE)
    if digest == "":  # a script's variable that was never set must not stand for any
        raise Failure("--digest: is empty; spiral-host permissions ID shows it", Status.USAGE)
    part = parse_granted(granted) if granted or nothing else None
    with asked_of(target, plugin_id) as host:
        shown = host.permissions(plugin_id)
        seen = shown.digest if digest is None else digest
        if shown.declares and seen == shown.digest and not as_json:
            words = _in_words(shown.asked) if part is None else ", ".join(granted) or "nothing"
            say(f"{plugin_id} {shown.version}: granting {words}")
            for line in _led(shown):
                say(f"  {line}")
        found = host.grant(plugin_id, part, digest=seen)
    if as_json:
        say_json(found.to_dict(), indent=2)
    else:
        withheld = missing(found.asked, found.granted)
        rest = f"; not granted: {_in_words(withheld)}" if withheld else ""
        say(f"{plugin_id}: granted; in force: {_in_words(found.in_force)}{rest}")
    return _stands(found)


@click.command()
@click.argument("plugin_id", metavar="ID")
@common
@click.pass_obj
def revoke(target: Target, plugin_id: str, *, as_json: bool) -> None:
    """Take away what a plugin was granted; if it asks for more than is left it stops."""
    with asked_of(target, plugin_id) as host:
        found = host.revoke(plugin_id)
    if as_json:
        say_json(found and found.to_dict(), indent=2)
        return
    stands = "it is not loaded" if found is None else f"it is {found.state}"
    say(f"{plugin_id}: revoked; {stands}")


def _stands(found: "PluginPermissions") -> int:
    """Say why a plugin is not ready, where errors belong; give the exit status."""
    if found.state == READY:
        return Status.YES
    show(Failure(f"{found.id}: {found.state}: {found.reason}"))
    return Status.NO


def _say_all(found: "Sequence[PluginPermissions]", *, as_json: bool) -> None:
    if as_json:
        say_list([each.to_dict() for each in found])
        return
    columns = ("id", "version", "state", "in force", "lacking", "refused")
    rows = [
        (
            *(each.id, each.version, each.state, _in_words(each.in_force)),
            "; ".join((*each.lacking.words(), *each.impossible)) or None,
            sum(refusal["count"] for refusal in each.refused) or None,
        )
        for each in found
    ]
    say_table(columns, rows)


def _say_page(found: "PluginPermissions") -> None:
    reason = f": {found.reason}" if found.reason else ""
    say_heading(f"{found.id} {found.version}: {found.state}{reason}")
    for name, lines in _sections(found):
        for place, line in enumerate(lines):
            say(f"  {'' if place else name:<14}{line}")


def _sections(found: "PluginPermissions") -> "Iterator[tuple[str, Sequence[str]]]":
    says = () if found.declares else ("(its manifest says nothing: what everyone gets)",)
    yield "asked", [*says, *_lines(found.asked)]
    yield "", _led(found)
    yield "granted", _lines(found.granted)
    if found.consented is not None:
        yield "consented to", [f"version {found.consented['version']}, {found.consented['when']}"]
    yield "in force", _lines(found.in_force)
    yield "not granted", missing(found.asked, found.granted).words()
    yield "impossible", found.impossible
    if found.declares and not found.impossible:
        yield "to grant this", [f"spiral-host grant {found.id} --digest {found.digest}"]
    yield (
        "last refused",
        [
            f"{each['permission']} {each['what']}, {each['count']} times, "
            f"the last {duration(each['ago_s'])} ago"
            for each in found.refused
        ],
    )


def _led(found: "PluginPermissions") -> list[str]:
    return [f"({path} leads to {real})" for path, real in found.leads.items()]


def _lines(permissions: Permissions) -> list[str]:
    return permissions.words() or ["nothing"]


def _in_words(permissions: Permissions) -> str:
    return ", ".join(_lines(permissions))


COMMANDS: Final = (permissions, grant, revoke)
