import pytest

from protocol.errors import RemoteProtocolError
from protocol.messages import FROM_ENDPOINT, HELLO, ClientTicket, Hello
from protocol.session import accept, greeting, read_greeting
from protocol.version import VERSION

DETAILS = ClientTicket(b"open")


class TestSession:
    def test_a_greeting_carries_the_details(self) -> None:
        """
        Who speaks the same version in the expected role is let in with what it said of itself.
        """
        body = greeting("worker", FROM_ENDPOINT, DETAILS)

        assert read_greeting(body).role == "worker"
        assert accept(body, "worker", FROM_ENDPOINT) == DETAILS

    def test_another_version_is_told_both(self) -> None:
        """
        Two versions that meet say so, and what cures it.
        """
        body = HELLO.encode(Hello(VERSION + 1, "worker", b""))
        with pytest.raises(RemoteProtocolError, match=f"{VERSION + 1} met version {VERSION}"):
            accept(body, "worker", FROM_ENDPOINT)

    def test_another_role_is_refused(self) -> None:
        """
        A client cannot come in by the workers' door.
        """
        body = greeting("client", FROM_ENDPOINT, DETAILS)
        with pytest.raises(RemoteProtocolError, match="a 'client' came where a 'worker'"):
            accept(body, "worker", FROM_ENDPOINT)

    def test_nothing_comes_before_the_greeting(self) -> None:
        """
        A connection that opens with anything else is refused.
        """
        with pytest.raises(RemoteProtocolError):
            accept(FROM_ENDPOINT.encode(DETAILS), "worker", FROM_ENDPOINT)
