"""Build a valid message of every kind of a conversation, so that none is left out.

Conversations that were listened to show how frames really look; what did not occur in them stands
here, built from the messages' own annotations.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, NewType, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from protocol.codec import Conversation


def every_kind(conversation: "Conversation[Any]") -> Iterator[bytes]:
    """Give one message of each kind, encoded."""
    for kind, _ in conversation._kinds.values():
        yield conversation.encode(_built(kind))


def _built(kind: Any) -> Any:  # noqa: ANN401 - whichever message
    hints = get_type_hints(kind)
    return kind(**{field.name: _value(hints[field.name]) for field in fields(kind)})


def _value(annotation: Any) -> Any:  # noqa: ANN401 - one line for each shape
    if isinstance(annotation, NewType):
        return _value(annotation.__supertype__)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in {Union, types.UnionType}:
        return _value(arguments[0])
    if origin is tuple:
        return tuple(_value(each) for each in arguments if each is not ...)
    if origin in {dict, Mapping}:
        return {"key": _value(arguments[1])}
    if is_dataclass(annotation):
        return _built(annotation)
    plain = {int: 4096, str: "text", bytes: b"bytes", bool: True, float: 0.5, object: [1, {"a": 2}]}
    return plain[annotation]
