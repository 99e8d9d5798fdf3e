"""Names that cross boundaries, each with the one function that parses it."""

import re
from typing import Final, NewType, TypeGuard

from protocol.errors import UsageError

PluginId = NewType("PluginId", str)
ServiceName = NewType("ServiceName", str)
Topic = NewType("Topic", str)
Incarnation = NewType("Incarnation", int)
"""One life of one worker or one connection of one client; the daemon never gives it twice."""

EVERYTHING: Final = Topic("*")

MAX_TOPIC: Final = 200
"""Bytes of UTF-8; a topic opens every packet of events, so it stays short."""

FAMILY: Final = ".*"
"""Ends a pattern of every type whose name begins with what stands before the star."""

MAX_SERVICE: Final = 128
"""Characters of a service's name."""

_PLUGIN_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_SERVICE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}\Z")
_METHOD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}\Z")


def parse_plugin_id(text: object) -> PluginId:
    """Accept letters, digits, `_`, `.` and `-`, at most 64, not led by `.` or `-`.

    A plugin's id also names its folders, so nothing that could leave them is let in.

    Raises:
        UsageError: It is anything else.
    """
    if isinstance(text, str) and _PLUGIN_ID.match(text):
        return PluginId(text)
    raise UsageError(f"{shown(text)} is no plugin id; use 1 to 64 of A-Z a-z 0-9 _ . -")


def parse_service(text: object) -> ServiceName:
    """Accept what `parse_plugin_id` does, `:` too, at most 128, led by a letter or `_`.

    Raises:
        UsageError: It is anything else.
    """
    if isinstance(text, str) and _SERVICE.match(text):
        return ServiceName(str.__str__(text))  # of an enumeration, too
    raise UsageError(f"{shown(text)} is no service name; use 1 to 128 of A-Z a-z 0-9 _ . : -")


def parse_topic(text: object) -> Topic:
    """Accept an event type: printable text of 1 to 200 bytes that is no pattern.

    Raises:
        UsageError: It is anything else; `*` and what ends in `.*` are patterns.
    """
    if _is_short_line(text) and text != EVERYTHING and not text.endswith(FAMILY):
        return Topic(text)
    raise UsageError(f"{shown(text)} is no event type; use 1 to {MAX_TOPIC} printable bytes")


def parse_pattern(text: object) -> Topic:
    """Accept what can be subscribed to: an event type, a family such as `Trainer.*`, or `*`.

    Raises:
        UsageError: It is anything else; a family has a name before `.*`, without another `*`.
    """
    if _is_short_line(text):
        if text == EVERYTHING or not text.endswith(FAMILY):
            return Topic(text)
        name = text.removesuffix(FAMILY)
        if name and "*" not in name:
            return Topic(text)
    raise UsageError(
        f"{shown(text)} is no event type and no pattern; "
        f"use at most {MAX_TOPIC} printable bytes, such as Trainer.epoch, Trainer.* or *"
    )


def _is_short_line(text: object) -> TypeGuard[str]:
    return (
        isinstance(text, str)
        and text.isprintable()
        and 0 < len(text.encode("utf-8", "surrogatepass")) <= MAX_TOPIC
    )


def parse_method(text: object) -> str:
    """Accept a public method's name: an ASCII identifier that does not begin with `_`.

    Raises:
        UsageError: It is anything else.
    """
    if isinstance(text, str) and _METHOD.match(text):
        return str.__str__(text)
    raise UsageError(f"{shown(text)} is no public method's name")


def shown(text: object) -> str:
    """Quote something untrusted so that it fits in one harmless line."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 72 else f"{quoted[:68]}..."
