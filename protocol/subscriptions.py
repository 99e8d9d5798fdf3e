"""The subscriptions of one process, and the callbacks that events are handed to. No I/O."""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from math import inf, isnan
from typing import Final, NamedTuple, TypeAlias

from protocol.errors import RemoteProtocolError, UsageError, in_a_line
from protocol.events import PluginEvent
from protocol.follower import Delivery
from protocol.names import Topic
from protocol.patterns import PatternMap
from protocol.payloads import decode_run, gap_event
from protocol.runs import Line, Run, unpack_run

EventCallback: TypeAlias = Callable[[PluginEvent], object]

CONFIRM_S: Final = 5.0
"""How long a subscription waits for its confirmation, seconds; a daemon that is started again
is back within 2."""

MAX_PATTERNS: Final = 10_000
"""Patterns that one process may subscribe to, with any number of callbacks."""

MAX_REPLAY: Final = 100_000
"""Past events that may be asked for; the hub has fewer than that of most types."""

MAX_FAILURES: Final = 16
"""Failures of callbacks that are told in words; all are counted."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What `subscribe` gives and `unsubscribe` takes."""

    topic: Topic
    number: int


class Past(NamedTuple):
    """What a subscriber wants of the past, beside the last event of each sticky type.

    Attributes:
        last: So many events, the newest; 0 goes by `since`.
        since: Those from then on, seconds since the epoch.
    """

    last: int = 0
    since: float = inf

    def of(self, runs: Iterable[Run]) -> list[Run]:
        """Cut runs down to their events that are wanted."""
        kept: list[Run] = []
        left = self.last
        for run in reversed(list(runs)):
            head = run.head
            wanted = min(left, head.events) if self.last else head.events * (head.ts >= self.since)
            left -= wanted if self.last else 0
            wanted = wanted or int(head.sticky)
            if wanted:
                kept.append(run.without(head.last - wanted))
        return kept[::-1]


def parse_past(replay: int, since: float | None) -> Past:
    """Accept what `subscribe` was told of the past.

    Raises:
        UsageError: It is none, or both.
    """
    if type(replay) is not int or not 0 <= replay <= MAX_REPLAY:
        raise UsageError(f"replay is a number of events from 0 to {MAX_REPLAY}; got {replay!r:.40}")
    if since is None:
        return Past(replay)
    try:
        if not replay and isinstance(since, int | float) and not isnan(since):
            return Past(0, float(since))
    except OverflowError:
        pass  # an integer beyond every time
    raise UsageError("since is a time, in seconds since the epoch, and goes without replay")


@dataclass(slots=True)
class Ran:
    """What became of one event here: how many callbacks it had, and which of them failed."""

    matched: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Callback:
    """One callback, and how its past goes over into its present."""

    call: EventCallback
    is_live: bool = False
    is_over: bool = False
    held: list[Delivery] | None = field(default_factory=list)
    """What has come before its past is known and done; None afterwards."""
    ends: dict[Line, int] = field(default_factory=dict)
    """How far the past reached: what comes up to there is the same once more."""


class Subscriptions:
    """Who in this process wants which events; lives as long as its connection."""

    def __init__(self) -> None:
        self.failed = 0
        """Callbacks that raised, all in all."""
        self._callbacks: PatternMap[_Callback] = PatternMap()
        self._by_number: dict[int, _Callback] = {}
        self._joining: set[_Callback] = set()
        self._numbers = count(1)

    def add(self, pattern: Topic, callback: EventCallback) -> tuple[Subscription, bool]:
        """Add a callback; say whether it is the first of its pattern.

        What comes is kept for it until `begin`.

        Raises:
            UsageError: There are `MAX_PATTERNS` other patterns already.
        """
        if pattern not in self._callbacks and len(self._callbacks.patterns) >= MAX_PATTERNS:
            raise UsageError(f"more than {MAX_PATTERNS} patterns are subscribed to; use a prefix")
        number = next(self._numbers)
        added = self._by_number[number] = _Callback(callback)
        self._joining.add(added)
        return Subscription(pattern, number), self._callbacks.add(pattern, added)

    def remove(self, subscription: Subscription) -> tuple[bool, bool]:
        """Remove a callback; say whether it was there, and whether it was its pattern's last."""
        removed = self._by_number.pop(subscription.number, None)
        if removed is None:
            return False, False
        removed.is_over = True
        self._joining.discard(removed)
        return True, self._callbacks.remove(subscription.topic, removed)

    def begin(self, subscription: Subscription, wanted: Past, frames: Iterable[bytes]) -> None:
        """Call back for past events, and from now on for those that come.

        Args:
            frames: Runs in order, from the hub, which hold what is wanted of the past. It has
                not looked into them: what is none is passed over, as it was when it came.
        """
        callback = self._by_number.get(subscription.number)
        if callback is None:
            return  # unsubscribed meanwhile
        runs = wanted.of(_runs_among(frames))
        callback.ends = {run.head.line: run.head.last for run in runs}
        recalled = set(callback.ends)
        for run in runs:
            self._call_with(callback, run, None)
        for delivery in callback.held or ():  # it grows while a callback waits for others
            # Who wants no past begins here: before, there may be what an earlier subscription
            # left behind, and a hole after it. A sticky value may have missed the answer by little.
            is_sticky = isinstance(delivery, Run) and delivery.head.sticky
            if wanted != Past() or is_sticky or _line_of(delivery) in recalled:
                recalled.add(_line_of(delivery))
                self._give(callback, delivery, None)
        callback.held = None
        self._go_live(callback)

    def _go_live(self, callback: _Callback) -> None:
        if not callback.ends:
            callback.is_live = True
            self._joining.discard(callback)

    def wants(self, topic: Topic) -> bool:
        """Say whether any callback is given events of a type."""
        return self._callbacks.wants(topic)

    # --- events come ------------------------------------------------------------------------------

    def deliver(self, delivery: Delivery) -> Ran | None:
        """Call back for every event of a run, or for the gap where events are missing.

        Returns:
            What became of an event whose publisher waits for that.
        """
        ran = Ran() if isinstance(delivery, Run) and delivery.head.report else None
        topic = _topic_of(delivery)
        callbacks = self._callbacks
        changes = callbacks.changes  # before what it stands for: any thread may change that
        matching = callbacks.matching(topic)
        joining = [each for each in tuple(self._joining) if each in matching]
        # Before the others, whose callbacks may run what comes behind this while they wait.
        for callback in joining:
            self._join(callback, delivery, ran)
        called = 0
        for event in _events_of(delivery):
            if changes != callbacks.changes:  # a callback may subscribe and unsubscribe
                changes = callbacks.changes
                matching = callbacks.matching(topic)
            for callback in matching:
                if not callback.is_live or (joining and callback in joining):
                    continue
                called += 1
                try:
                    callback.call(event)
                except Exception as error:  # noqa: BLE001 - one callback's failure stops no other
                    self._failed(topic, error, ran)
        if ran is not None:
            ran.matched += called
        return ran

    def _join(self, callback: _Callback, delivery: Delivery, ran: Ran | None) -> None:
        """Give one that is new what comes, or keep it until its past is known and done."""
        if callback.held is not None:
            callback.held.append(delivery)
            return
        self._give(callback, delivery, ran)
        self._go_live(callback)

    def _give(self, callback: _Callback, delivery: Delivery, ran: Ran | None) -> None:
        """Give it what was not in its past."""
        about = delivery.head if isinstance(delivery, Run) else delivery
        line = _line_of(delivery)
        end = callback.ends.get(line, 0)
        if about.last <= end:
            return
        if isinstance(delivery, Run):
            callback.ends.pop(line, None)
            self._call_with(callback, delivery.without(end), ran)
        else:
            rest = delivery._replace(first=max(delivery.first, end + 1))
            self._call_with(callback, rest, ran)

    def _call_with(self, callback: _Callback, delivery: Delivery, ran: Ran | None) -> None:
        for event in _events_of(delivery):
            if callback.is_over:
                return
            try:
                callback.call(event)
            except Exception as error:  # noqa: BLE001 - one callback's failure stops no other
                self._failed(_topic_of(delivery), error, ran)
            if ran is not None:
                ran.matched += 1

    def _failed(self, topic: Topic, error: Exception, ran: Ran | None) -> None:
        self.failed += 1
        sys.stderr.write(f"a callback for {topic} raised\n{traceback.format_exc()}")
        if ran is not None:
            ran.failed += 1
            if len(ran.failures) < MAX_FAILURES:
                ran.failures.append(in_a_line(error))


def _line_of(delivery: Delivery) -> Line:
    about = delivery.head if isinstance(delivery, Run) else delivery
    return about.source, about.incarnation, Topic(about.topic)


def _topic_of(delivery: Delivery) -> Topic:
    return delivery.head.topic if isinstance(delivery, Run) else Topic(delivery.topic)


def _runs_among(frames: Iterable[bytes]) -> Iterator[Run]:
    for frame in frames:
        with suppress(RemoteProtocolError):
            yield unpack_run(frame)


def _events_of(delivery: Delivery) -> Iterable[PluginEvent]:
    return decode_run(delivery) if isinstance(delivery, Run) else (gap_event(delivery),)
