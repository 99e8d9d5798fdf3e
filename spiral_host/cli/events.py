"""The command that follows the event bus: events."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from spiral_host.cli.arguments import parse_topics
from spiral_host.cli.door import Target
from spiral_host.cli.failure import Failure, Status
from spiral_host.cli.options import common
from spiral_host.cli.output import plain, say, say_json

if TYPE_CHECKING:
    from protocol.events import PluginEvent
    from protocol.subscriptions import EventCallback
    from spiral_host import Host

WAITING: Final = 10_000
"""Events that may wait to be printed: some MB, and seconds of a terminal's time."""


@click.command()
@click.argument("types", nargs=-1, metavar="[TYPE]...")
@click.option("--count", type=click.IntRange(min=1), help="Leave after so many events.")
@click.option("--record", metavar="FILE", help="Keep them in a new file, for 'replay'.")
@click.option("--mermaid", is_flag=True, help="Draw them at the end, as a sequence diagram.")
@click.option("--quiet", is_flag=True, help="Do not print them.")
@common
@click.pass_obj
def events(
    target: Target,
    types: Sequence[str],
    count: int | None,
    record: str | None,
    *,
    mermaid: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print events as they come, one a line; without TYPE, all of them. Ctrl-C ends it.

    A TYPE may be a family such as 'Trainer.*'.
    """
    topics = parse_topics(types)
    _refuse_existing(record)
    printers = [] if quiet else [_say_as_json if as_json else _say_in_words]
    try:
        with (
            closing(target.connect()) as host,
            _recorded(record) as recorders,
            _drawn(as_json=as_json) if mermaid else nullcontext(printers) as shown,
        ):
            _hand_on(host, topics, [*recorders, *shown], count)
    except KeyboardInterrupt:
        pass


def _hand_on(
    host: "Host", topics: Sequence[str], takers: "Sequence[EventCallback]", count: int | None
) -> None:
    """Give everybody every event, until enough have come or somebody presses Ctrl-C.

    Raises:
        Failure: Some were dropped because the others were not taken in time.
        NoDaemon: It has gone.
    """
    with host.listen(*topics, maxlen=WAITING) as listener:
        click.echo(f"listening for {', '.join(topics)} (Ctrl-C ends)", err=True)
        try:
            for number, event in enumerate(listener, start=1):
                for take in takers:
                    take(event)
                if number == count:
                    break
        except KeyboardInterrupt:
            pass
    if listener.dropped:
        what = f"events: {listener.dropped} came faster than they print; name fewer types"
        raise Failure(what)


@contextmanager
def _recorded(path: str | None) -> "Iterator[list[EventCallback]]":
    """Record into a file, and say at the end what has become of it.

    Raises:
        Failure: Not all could be recorded.
    """
    if path is None:
        yield []
        return
    from spiral_host import JsonLines  # noqa: PLC0415 - brings msgpack

    with JsonLines(path) as recorder:
        try:
            yield [recorder]
        finally:
            figures = f"{recorder.recorded} recorded, {recorder.dropped} dropped"
            deleted = f", {recorder.deleted} deleted with old files" if recorder.deleted else ""
            click.echo(f"{path}: {figures}{deleted}", err=True)
    if recorder.dropped:
        what = f"{path}: {recorder.dropped} were not recorded ({recorder.error}); make room"
        raise Failure(what)


def _refuse_existing(path: str | None) -> None:
    """Mix no two recordings, and overwrite none."""
    for name in [] if path is None else [path, f"{path}.1"]:
        file = Path(name)
        if file.is_file() and file.stat().st_size:
            what = f"{name}: is there already; name another file, or remove it"
            raise Failure(what, Status.USAGE)


@contextmanager
def _drawn(*, as_json: bool) -> "Iterator[list[EventCallback]]":
    """Draw at the end what has come until then."""
    from spiral_host import SequenceDiagram  # noqa: PLC0415 - late, as everything from there

    diagram = SequenceDiagram()
    try:
        yield [diagram]
    finally:
        if as_json:
            say_json({"mermaid": diagram.draw()})
        else:
            click.echo(diagram.draw(), nl=False)


def _say_as_json(event: "PluginEvent") -> None:
    say_json(event.to_dict())


def _say_in_words(event: "PluginEvent") -> None:
    say(in_words(event.to_dict()))


def in_words(event: Mapping[str, object]) -> str:
    """Write an event as one line: when, what, from whom, its number, its fields."""
    fields = {name: event[name] for name in event if name not in {"type", "source", "seq", "ts"}}
    said = " ".join(f"{name}={json.dumps(plain(field))}" for name, field in fields.items())
    when = _clock(float(str(event["ts"])))
    return f"{when}  {event['type']}  {event['source']} #{event['seq']}  {said}".rstrip()


def _clock(ts: float) -> str:
    """Write a moment as the time of day; one that no calendar has, as it is."""
    try:
        return datetime.fromtimestamp(ts).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (OverflowError, ValueError, OSError):
        return f"{ts:g}"


COMMANDS: Final = (events,)
