"""The command that follows the event bus: events."""

import json
import queue
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from spiral_host.cli.arguments import parse_topics
from spiral_host.cli.door import Target
from spiral_host.cli.failure import Failure
from spiral_host.cli.options import common
from spiral_host.cli.output import plain, say, say_json

if TYPE_CHECKING:
    from protocol.events import PluginEvent
    from spiral_host import Host

WAITING: Final = 10_000
"""Events that may wait to be printed: some MB, and seconds of a terminal's time."""

QUIET: Final = 2.0
"""Seconds without an event after which the daemon is asked whether it is still there."""


class Inbox:
    """What has arrived and is not printed yet. Filled by the client's thread, which never waits."""

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: queue.Queue[PluginEvent] = queue.Queue(WAITING)

    def put(self, event: "PluginEvent") -> None:
        """Keep an event, or count it as dropped when printing is too slow."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.dropped += 1

    def follow(self, host: "Host") -> "Iterator[PluginEvent]":
        """Give events as they come, for as long as the daemon lives.

        Raises:
            NoDaemon: It does not any more.
        """
        while True:
            try:
                yield self._waiting.get(timeout=QUIET)
            except queue.Empty:
                host.status()


@click.command()
@click.argument("types", nargs=-1, metavar="[TYPE]...")
@click.option("--count", type=click.IntRange(min=1), help="Leave after so many events.")
@common
@click.pass_obj
def events(target: Target, types: Sequence[str], count: int | None, *, as_json: bool) -> None:
    """Print events as they come, one a line; without TYPE, all of them. Ctrl-C ends it."""
    topics = parse_topics(types)
    inbox = Inbox()
    try:
        with closing(target.connect()) as host:
            for topic in topics:
                host.subscribe(topic, inbox.put)
            click.echo(f"listening for {', '.join(topics)} (Ctrl-C ends)", err=True)
            _print(inbox.follow(host), count, as_json=as_json)
    except KeyboardInterrupt:
        pass
    if inbox.dropped:
        what = f"events: {inbox.dropped} came faster than they print; name fewer types"
        raise Failure(what)


def _print(arriving: "Iterator[PluginEvent]", count: int | None, *, as_json: bool) -> None:
    for number, event in enumerate(arriving, start=1):
        if as_json:
            say_json(event.to_dict())
        else:
            say(in_words(event.to_dict()))
        if number == count:
            return


def in_words(event: Mapping[str, object]) -> str:
    """Write an event as one line: when, what, from whom, its number, its fields."""
    fields = {name: event[name] for name in event if name not in {"type", "source", "seq", "ts"}}
    said = " ".join(f"{name}={json.dumps(plain(field))}" for name, field in fields.items())
    when = datetime.fromtimestamp(float(str(event["ts"]))).astimezone()
    stamp = when.strftime("%H:%M:%S.%f")[:-3]
    return f"{stamp}  {event['type']}  {event['source']} #{event['seq']}  {said}".rstrip()


COMMANDS: Final = (events,)
