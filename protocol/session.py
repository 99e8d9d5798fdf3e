"""Decide whether two ends may speak: the handshake's rules, without any I/O."""

from protocol.codec import Conversation, M
from protocol.errors import RemoteProtocolError
from protocol.messages import HELLO, Hello
from protocol.version import VERSION


def greeting(role: str, conversation: Conversation[M], details: M) -> bytes:
    """Give the first message that this end sends."""
    return HELLO.encode(Hello(VERSION, role, conversation.encode(details)))


def read_greeting(body: bytes) -> Hello:
    """Read the other end's first message.

    Raises:
        RemoteProtocolError: It is no greeting, or of another protocol version; the text names
            both versions and is fit to be sent back in a `Refused`.
    """
    hello = HELLO.decode(body)
    if hello.protocol != VERSION:
        raise RemoteProtocolError(
            f"protocol version {hello.protocol} met version {VERSION}; "
            "install the same spiral-host on both sides"
        )
    return hello


def accept(body: bytes, role: str, conversation: Conversation[M]) -> M:
    """Read the first message of an end that can have only one role, and its details.

    Raises:
        RemoteProtocolError: As `read_greeting`, or it has another role.
    """
    hello = read_greeting(body)
    if hello.role != role:
        raise RemoteProtocolError(f"a {hello.role[:20]!r} came where a {role!r} is expected")
    return conversation.decode(hello.body)
