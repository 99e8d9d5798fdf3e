"""Keep what this process says and is said on its umbilical and its lanes, frame by frame."""

import struct
from functools import wraps
from typing import Any

from protocol.lane import Lane
from protocol.packets import Kind, cut
from protocol.umbilical import Umbilical

MOST = 4000
LONGEST = 8192
"""Frames that are kept of one conversation, and the bytes of each."""

Frames = dict[str, list[bytes]]


def keep(frames: Frames, where: str, frame: bytes) -> None:
    """Keep a frame, if it has room."""
    kept = frames.setdefault(where, [])
    if len(kept) < MOST and len(frame) <= LONGEST:
        kept.append(frame)


def tap(frames: Frames) -> None:
    """Listen from now on."""
    send, receive, write = Umbilical.send, Lane.receive, Lane._write

    @wraps(send)
    def heard_send(self: Umbilical, kind: Kind, body: bytes, *rest: Any) -> bool:  # noqa: ANN401
        keep(frames, "umbilical", cut(kind, body)[0])
        return send(self, kind, body, *rest)

    @wraps(receive)
    def heard_receive(self: Lane) -> bytes | None:
        frame = receive(self)
        if frame is not None:
            keep(frames, "lane", struct.pack("!I", len(frame)) + frame)
        return frame

    @wraps(write)
    def heard_write(self: Lane, sent: bytes) -> bool:
        keep(frames, "lane", bytes(sent))
        return write(self, sent)

    Umbilical.send = heard_send  # type: ignore[method-assign]
    Lane.receive = heard_receive  # type: ignore[method-assign]
    Lane._write = heard_write  # type: ignore[method-assign]
