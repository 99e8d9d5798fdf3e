"""Publish events up the umbilical, together where they come thick, with bounds.

nothing sent for a millisecond  -> leaves at once
a moment ago                    -> with those that follow: when their batch is full, when a
                                   millisecond has passed, when the plugin's own code returns
the window is full              -> waits for room, then the loss is said
"""

import threading
from itertools import count
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from plugin_worker.desk import Desk, report_name
from protocol import failpoints
from protocol.batches import Batches
from protocol.interest import InterestReader
from protocol.messages import Dropped
from protocol.names import parse_topic
from protocol.packets import Kind
from protocol.payloads import encode_event, topic_of
from protocol.publishing import MARGIN_S, ROOM_S, PublishReport, report_of
from protocol.runs import Publication, pack_body, pack_publication
from protocol.window import Window

if TYPE_CHECKING:
    from protocol.events import PluginEvent
    from protocol.names import Topic

BATCH_S: Final = 0.001
"""How long an event waits for others that leave with it, seconds."""

FLOOD: Final = 64
"""Events in one batch that show a flood, whose batches are worth waiting for until they are full:
it is what carries them that limits a flood, and each batch costs that the same."""

FLOOD_S: Final = 0.004
"""How long an event of a flood waits, seconds, where others hold the processor meanwhile."""


class Publisher:
    """The worker's way onto the bus; lives as long as the worker. Any thread may use it."""

    def __init__(self, desk: Desk, interest: InterestReader) -> None:
        self._desk = desk
        self._interest = interest
        self._window = Window()
        self._batches = Batches()
        self._order = threading.Lock()
        self._acquire, self._release = self._order.acquire, self._order.release
        """For each event, because these take half as long as `with`."""
        self._look_at = self._leave_at = 0.0
        self._last = 0
        self._sticky: set[Topic] = set()
        self._reports = count(1)
        self._late = threading.Event()
        self._flusher: threading.Thread | None = None
        self._is_awake = False

    def publish(self, event: "PluginEvent") -> None:
        """Send an event up, in the order of the calls; costs next to nothing if nobody wants it.

        Raises:
            UsageError: Its type is reserved, or a field holds something else than it should.
            LocalProtocolError: It cannot travel.
        """
        if event.__class__ is self._batches.kind:
            self._acquire()
            try:
                if self._batches.join_numbers(event):
                    if monotonic() >= self._look_at:
                        self._look()
                    return
            finally:
                self._release()
        topic = topic_of(event)
        # Of a type that others may join, this was asked when their batch was begun.
        if topic != self._batches.topic:
            if topic in self._sticky:
                body = pack_body([encode_event(event)])
                self._send_alone(Publication(topic, body, 1, sticky=True))
                return
            if not self._interest.wants(topic):
                return
        payload = encode_event(event)
        self._acquire()
        try:
            if not self._batches.join(topic, payload):
                self._begin(topic, payload)
            if monotonic() >= self._look_at:
                self._look()
            elif not self._is_awake:
                self._wake_flusher()
        finally:
            self._release()

    def publish_report(self, event: "PluginEvent", timeout: float) -> PublishReport:
        """Send an event up, and wait until every callback for it has run.

        Args:
            timeout: Seconds.

        Raises:
            UsageError, LocalProtocolError: As `publish` does.
            DeadlineExceeded: There is no daemon that would know.
        """
        topic = topic_of(event)
        is_sticky = topic in self._sticky
        if not is_sticky and not self._interest.wants(topic):
            return PublishReport(topic)
        number, body = next(self._reports), pack_body([encode_event(event)])
        said = Publication(topic, body, 1, number, int(timeout * 1000), is_sticky)
        name, longest_s = report_name(number), timeout + MARGIN_S
        figures = self._desk.expect(name, lambda: self._send_alone(said), longest_s)
        return report_of(topic, *figures)

    def make_sticky(self, event_type: str) -> None:
        """Have the last event of a type kept for whoever subscribes later."""
        self._sticky.add(parse_topic(event_type))
        with self._order:
            if self._batches:
                self._flush()  # what is published from now on joins nothing

    def flush(self) -> None:
        """Let what waits for more leave now."""
        # Else nothing waits; and this is asked for each call that is served.
        if self._is_awake and self._batches:
            with self._order:
                self._flush()

    def taken(self, events: int, size: int) -> None:
        """The node has taken so many of them in."""
        self._window.taken(events, size)

    # --- with the lock ----------------------------------------------------------------------------

    def _begin(self, topic: "Topic", payload: bytes) -> None:
        """Begin a batch, if it is wanted still: those before it are complete."""
        if self._batches:
            self._flush()
        is_sticky = topic in self._sticky  # by now: another thread may have made it so
        if not (is_sticky or self._interest.wants(topic)):
            return
        if not self._has_room():
            self._batches.skip(topic)
        elif is_sticky:
            self._batches.add_alone(Publication(topic, pack_body([payload]), 1, sticky=True))
        else:
            self._batches.begin(topic, payload)

    def _send_alone(self, said: Publication) -> None:
        with self._order:
            self._flush()
            if self._has_room():
                self._batches.add_alone(said)
            else:
                self._batches.skip(said.topic)
            self._flush()

    def _has_room(self) -> bool:
        deadline = monotonic() + ROOM_S
        while self._window.is_full:
            if not self._desk.wait_for_news(deadline):
                return False
        return True

    def _look(self) -> None:
        """Send what waits, or look again when a flood's batch has waited long enough, too."""
        if self._must_leave(monotonic()):
            self._flush()
        else:
            self._look_at = self._leave_at + FLOOD_S
            if not self._is_awake:
                self._wake_flusher()

    def _must_leave(self, now: float) -> bool:
        left = now - self._leave_at
        return left >= FLOOD_S or (left >= 0 and not self._is_flood)

    @property
    def _is_flood(self) -> bool:
        # By the last batch too: who had to let others run begins the next one late.
        return self._last >= FLOOD or self._batches.newest >= FLOOD

    def _flush(self) -> None:
        while self._batches:
            said = self._batches.take()
            self._last = said.events
            if said.body:
                if failpoints.ARMED:
                    failpoints.hit("publish.before")
                self._window.sent(said.events, said.size)
                self._desk.send(Kind.EVENTS, pack_publication(said))
            else:
                self._desk.tell_node(Dropped(said.topic, said.events))
        # Counted from now: what was sent may have given the processor to others for a while.
        self._look_at = self._leave_at = monotonic() + BATCH_S

    # --- the flusher ------------------------------------------------------------------------------

    def _wake_flusher(self) -> None:
        self._is_awake = True
        if self._flusher is None:
            name = "spiral-host events"
            self._flusher = threading.Thread(target=self._flush_late, name=name, daemon=True)
            try:
                self._flusher.start()
            except RuntimeError:  # no thread more is allowed: nothing waits for others then
                self._flusher, self._is_awake = None, False
                self._flush()
                return
        self._late.set()

    def _flush_late(self) -> None:
        """Send what has waited long enough, for a plugin that is busy with something else."""
        while True:
            self._late.wait()
            sleep(FLOOD_S if self._is_flood else BATCH_S)
            # Looked at without the lock: who has it is the publisher, and sends by itself.
            if self._batches and not self._must_leave(monotonic()):
                continue
            with self._order:
                if not self._batches:
                    self._late.clear()
                    self._is_awake = False
                elif self._must_leave(monotonic()):
                    self._flush()
