"""The command `report`: why a plugin died. Reads what lies on disk, so it needs no daemon."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import click

from protocol.names import parse_plugin_id
from spiral_host.cli.door import Target
from spiral_host.cli.failure import Failure, show
from spiral_host.cli.options import common
from spiral_host.cli.output import (
    duration,
    megabytes,
    say,
    say_block,
    say_heading,
    say_json,
    say_list,
    say_table,
    seconds,
)

if TYPE_CHECKING:
    from protocol.messages import Flight, Vital
    from spiral_host import CrashReport
    from spiral_host.crashes import Past


@click.command()
@click.argument("plugin_id", metavar="ID")
@click.option(
    "--all", "how_many", flag_value="all", help="Every report that is kept, newest first."
)
@click.option("--list", "how_many", flag_value="list", help="One line for each report.")
@common
@click.pass_obj
def report(target: Target, plugin_id: str, how_many: str | None, *, as_json: bool) -> None:
    """Say why a plugin died the last time that nobody had asked it to."""
    parse_plugin_id(plugin_id)
    found = _readable(target, plugin_id)
    first = next(found, None)
    if first is None:
        what = f"{plugin_id}: no crash report in {target.run_dir}; it has not crashed there"
        raise Failure(what)
    reports = [first, *found] if how_many else [first]
    if how_many == "list":
        _say_short(reports, as_json=as_json)
    elif as_json and how_many:
        say_list([report.to_dict() for report in reports])
    elif as_json:
        say_json(first.to_dict(), indent=2)
    else:
        for place, each in enumerate(reports):
            if place:
                say("")
            _say_page(each)


def _readable(target: Target, plugin_id: str) -> "Iterator[CrashReport]":
    """Give those that can be read; name those that cannot."""
    from spiral_host.crash_files import Unreadable, all_of  # noqa: PLC0415 - brings msgpack

    for each in all_of(target.run_dir, plugin_id):
        if isinstance(each, Unreadable):
            show(Failure(f"{each.path}: is no crash report: {each.why}; remove it"))
        else:
            yield each


def _say_short(reports: "Sequence[CrashReport]", *, as_json: bool) -> None:
    columns = ("at", "kind", "incarnation", "pid", "summary", "next")
    rows = [(r.at, str(r.kind), r.incarnation, r.pid, r.summary, r.next) for r in reports]
    if as_json:
        say_list([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        say_table(columns, rows)


def _say_page(report: "CrashReport") -> None:
    """Print one report as a page, leaving out what there is nothing to say about."""
    say_heading(f"{report.plugin_id} {report.version}: {report.summary}")
    for name, value in _facts(report):
        say(f"  {name:<12}{value}")
    for name, text in (("traceback", report.traceback), ("stacks", report.stacks)):
        _say_section(name, text.splitlines())
    _say_section("calls in flight", [_call(flight) for flight in report.in_flight])
    _say_section("last events", report.events)
    _say_section("last log lines", report.log)
    _say_section("memory and processor", [_vital(vital) for vital in report.vitals])
    _say_section("earlier deaths", [_past(past) for past in report.past])


def _facts(report: "CrashReport") -> "Iterator[tuple[str, object]]":
    yield "kind", report.kind
    yield "cause", report.cause
    if report.reason and report.reason != report.cause:
        yield "reason", report.reason
    yield "when", f"{report.at} (monotonic clock {report.monotonic:.3f} s)"
    yield "state", report.state
    if report.lived_s is not None:
        yield "lived", f"{duration(report.lived_s)} ({report.lived_s:.3f} s)"
    yield "process", f"pid {report.pid}, incarnation {report.incarnation}"
    if report.calls is not None:
        yield "calls", f"{report.calls} answered, {report.errors} of them raised"
    yield "restarts", report.restarts
    yield "next", report.next if report.next_at is None else f"{report.next} at {report.next_at}"
    yield "plugin", report.path
    yield "versions", ", ".join(f"{name} {of}" for name, of in report.versions.items())


def _say_section(name: str, lines: Sequence[str]) -> None:
    if lines:
        say("")
        say_heading(name)
        say_block(lines)


def _call(flight: "Flight") -> str:
    caller = flight.caller_name or flight.caller
    left = f"{flight.left_s:.1f} s left" if flight.left_s >= 0 else f"{-flight.left_s:.1f} s late"
    return f"{flight.service}, call {flight.number} of {caller}, {left}"


def _vital(vital: "Vital") -> str:
    used = f"{megabytes(vital.memory)}, {seconds(vital.cpu_s)} of a core"
    return f"{vital.ago_s:6.1f} s before: {used}, {vital.threads} threads"


def _past(past: "Past") -> str:
    lived = "" if past.lived_s is None else f", after {past.lived_s:.3g} s"
    return f"{past.ago_s:.0f} s before: {past.cause}{lived}"


COMMANDS: Final = (report,)
