"""The command that publishes a recording again: replay."""

import math
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import click

from protocol.errors import LocalProtocolError, UsageError
from spiral_host.cli.door import Target
from spiral_host.cli.failure import Failure, Status
from spiral_host.cli.options import common
from spiral_host.cli.output import say, say_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protocol.events import PluginEvent
    from spiral_host import Host

_LONGEST_S: Final = 3600.0
"""How long the command sleeps at once, seconds; time.sleep refuses what no clock can hold."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=False))
@click.option(
    "--speed",
    type=float,
    metavar="X",
    help="1 in the time of the recording, 2 twice as fast.  [default: as fast as possible]",
)
@common
@click.pass_obj
def replay(target: Target, file: str, speed: float | None, *, as_json: bool) -> None:
    """Publish a recording's events again, in their order; their source is then this command.

    What only the daemon publishes is left out.
    """
    if speed is not None and not 0 < speed < math.inf:
        raise Failure(f"--speed {speed:g}: is no pace; use a number above 0", Status.USAGE)
    tally = _Tally()
    try:
        with closing(target.connect()) as host:
            _publish_all(host, file, speed, tally)
    finally:
        if tally.has_begun:
            tally.say(file, as_json=as_json)


class _Tally:
    """What has become of the events of a recording."""

    def __init__(self) -> None:
        self.has_begun = False
        self.published = 0
        self.skipped = 0

    def say(self, file: str, *, as_json: bool) -> None:
        """Print it."""
        if as_json:
            say_json({"file": file, "published": self.published, "skipped": self.skipped})
            return
        left_out = f", {self.skipped} left out: only the daemon publishes them"
        say(f"{file}: {self.published} published{left_out if self.skipped else ''}")


def _publish_all(host: "Host", file: str, speed: float | None, tally: _Tally) -> None:
    """Publish what can be.

    Raises:
        BrokenRecording: The recording is cut or broken; what is whole has been published.
        Failure: An event cannot be published.
    """
    from protocol.events import RESERVED  # noqa: PLC0415 - late
    from spiral_host import read_recording  # noqa: PLC0415 - brings msgpack

    tally.has_begun = True
    for event in _paced(read_recording(file), speed):
        if event.type in RESERVED:
            tally.skipped += 1
            continue
        try:
            host.publish(event)
        except (UsageError, LocalProtocolError) as error:
            number = tally.published + tally.skipped + 1
            what = f"{file}: event {number} cannot be published ({error}); record again"
            raise Failure(what) from error
        tally.published += 1


def _paced(events: "Iterator[PluginEvent]", speed: float | None) -> "Iterator[PluginEvent]":
    """Give each event when it is due: as long after the first as it was then, or at once."""
    began, first = time.monotonic(), None
    for event in events:
        if speed is not None and event.ts:
            first = event.ts if first is None else first
            _sleep_until(began + (event.ts - first) / speed)
        yield event


def _sleep_until(due: float) -> None:
    while (left := due - time.monotonic()) > 0:
        time.sleep(min(left, _LONGEST_S))


COMMANDS: Final = (replay,)
