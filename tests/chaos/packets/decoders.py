"""Feed mutated frames to everything that decodes, where each exception is seen and timed."""

import time
from collections.abc import Callable, Iterable
from typing import Final

from protocol.calls import error_of, head_of, is_call
from protocol.carrier import Carrier
from protocol.errors import RemoteProtocolError, UsageError
from protocol.feed import TO_HUB, is_run
from protocol.messages import FROM_CLIENT, FROM_ENDPOINT, FROM_WORKER
from protocol.packets import Joiner, Kind
from protocol.payloads import decode_run
from protocol.runs import unpack_publication, unpack_run
from protocol.session import read_greeting
from tests.chaos.packets.mutations import Mutator
from tests.chaos.packets.recording import Conversations
from tests.chaos.packets.umbilicals import Tally

AT_MOST_S: Final = 1.0
"""Far more than a millisecond, which the worst of them takes on a free machine."""

_ERRORS: Final = (RemoteProtocolError, UsageError)


class Decoders:
    """Every decoder of untrusted bytes; what it raises beside our two errors is kept."""

    def __init__(self, conversations: Conversations, seed: int) -> None:
        self.tally = Tally()
        self.wrong: list[str] = []
        kinds = ("umbilical", "lane", "control", "events")
        self._mutators = [Mutator(seed, conversations[kind]) for kind in kinds]
        self._decoders = (_packet, _lane, _control, _hub)

    def attack(self, frames: int) -> None:
        """Feed so many."""
        for _ in range(frames // len(self._decoders)):
            for decode, mutator in zip(self._decoders, self._mutators, strict=True):
                frame = mutator.next()
                began = time.monotonic()
                try:
                    decode(frame)
                except _ERRORS:
                    self.tally.ended += 1
                except Exception as error:  # noqa: BLE001 - that is what is looked for
                    self.wrong.append(f"{decode.__name__}: {error!r}: {frame[:300]!r}")
                took = time.monotonic() - began
                self.tally.longest_s = max(self.tally.longest_s, took)
                if took > AT_MOST_S:
                    self.tally.hung.append(frame)
            self.tally.sent += len(self._decoders)


def _first(body: bytes, decoders: Iterable[Callable[[bytes], object]]) -> None:
    for decode in decoders:
        try:
            decode(body)
        except _ERRORS:
            continue


def _packet(packet: bytes) -> None:
    message = Joiner().feed(packet)
    if message is None:
        return
    kind, body = message
    if kind is Kind.EVENTS:
        unpack_publication(body)
    _first(body, (FROM_ENDPOINT.decode, FROM_WORKER.decode, read_greeting))


def _lane(frame: bytes) -> None:
    head_of(frame)
    parts = Carrier().unpack(frame)
    if not is_call(parts) and parts[1] == 1:
        error_of(parts)


def _control(frame: bytes) -> None:
    _first(frame, (FROM_CLIENT.decode, read_greeting))


def _hub(frame: bytes) -> None:
    if is_run(frame):
        list(decode_run(unpack_run(frame)))
    else:
        TO_HUB.decode(frame)
