import pytest

from protocol.calls import pack_call, unpack_call, unpack_reply
from protocol.codec import MAX_MESSAGE, new_packer
from protocol.errors import (
    DeadlineExceeded,
    RemoteError,
    SpiralHostError,
    UsageError,
)
from protocol.servant import MAX_TRACEBACK, Servant, public_methods
from protocol.turn import TURN

FOREVER = 1e12
PACK = new_packer()


class Counter:
    """Counts for the test to see."""

    def __init__(self) -> None:
        self.calls = self.errors = 0

    def count_call(self) -> None:
        """Count a call."""
        self.calls += 1

    def count_error(self) -> None:
        """Count an error."""
        self.errors += 1


class Unreadable(Exception):
    """An exception that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError


class Math:
    """A service with what a service may have."""

    constant = 5

    def add(self, a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    def fail(self) -> None:
        """Raise."""
        raise ValueError("no \udcff" * 9999)

    def leave(self) -> None:
        """Try to end the process."""
        raise SystemExit(1)

    def unreadable(self) -> None:
        """Raise what cannot be shown."""
        raise Unreadable

    def large(self) -> bytes:
        """Give too much."""
        return bytes(MAX_MESSAGE)

    def odd(self) -> object:
        """Give what cannot travel."""
        return {1, 2}

    def _secret(self) -> None:
        """Not for others."""

    def naïve(self) -> None:  # noqa: PLC2401 - on purpose
        """Not for others either: its name cannot travel."""


def call(
    servant: Servant,
    method: str,
    *arguments: object,
    keywords: dict[str, object] | None = None,
    deadline: float = FOREVER,
) -> tuple[object, SpiralHostError | None]:
    frame = pack_call(PACK, 7, "math", method, arguments, keywords or {}, deadline, ())
    number, value, error = unpack_reply(servant.serve(unpack_call(frame), 2, "caller", PACK))
    assert number == 7
    return value, error


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def servant(counter: Counter) -> Servant:
    servant = Servant(counter)
    servant.offer("math", Math())
    return servant


class TestServant:
    def test_a_method_is_called(self, servant: Servant, counter: Counter) -> None:
        """
        Arguments reach the method, by place and by name, and its value comes back.
        """
        assert call(servant, "add", 2, keywords={"b": 3}) == (5, None)
        assert call(servant, "add", 2) == (3, None)
        assert (counter.calls, counter.errors, servant.served) == (2, 0, 2)

    @pytest.mark.parametrize(
        ("method", "type_name"),
        [
            ("fail", "ValueError"),
            ("leave", "SystemExit"),
            ("unreadable", "Unreadable"),
            ("large", "LocalProtocolError"),
            ("odd", "LocalProtocolError"),
            ("add", "TypeError"),
        ],
    )
    def test_whatever_a_plugin_raises_goes_to_its_caller(
        self, servant: Servant, counter: Counter, method: str, type_name: str
    ) -> None:
        """
        Nothing that a method does, not even leaving, ends the one that serves it.
        """
        _, error = call(servant, method)

        assert isinstance(error, RemoteError)
        assert (error.type_name, error.call) == (type_name, f"math.{method}")
        assert len(error.traceback) <= 8 * MAX_TRACEBACK
        assert (counter.calls, counter.errors) == (0, 1)

    def test_a_traceback_shows_the_plugins_code(self, servant: Servant) -> None:
        """
        The author's frames travel, ours do not.
        """
        _, error = call(servant, "unreadable")

        assert isinstance(error, RemoteError)
        assert "raise Unreadable" in error.traceback
        assert "protocol/servant.py" not in error.traceback

    @pytest.mark.parametrize("method", ["_secret", "__class__", "constant", "naïve", "sub"])
    def test_only_public_methods_can_be_called(self, servant: Servant, method: str) -> None:
        """
        What is no public method does not exist, and the error names what does.
        """
        _, error = call(servant, method)

        assert isinstance(error, UsageError)
        assert "it has add" in str(error)

    def test_a_call_that_comes_too_late_is_not_carried_out(
        self, servant: Servant, counter: Counter
    ) -> None:
        """
        A caller that waits no longer gets no side effects either.
        """
        _, error = call(servant, "fail", deadline=0.0)

        assert isinstance(error, DeadlineExceeded)
        assert counter.errors == 0

    def test_a_service_can_be_taken_back(self, servant: Servant) -> None:
        """
        A withdrawn service is not offered any more; taking it back twice is harmless.
        """
        assert servant.withdraw("math")
        assert not servant.withdraw("math")
        assert servant.offers == {}
        assert servant.object_of("math") is None
        assert "not offered here any more" in str(call(servant, "add")[1])

    def test_a_service_can_be_replaced(self, servant: Servant) -> None:
        """
        The newest object of a name is the one that is called.
        """

        class Other:
            def sub(self) -> int:
                return 0

        other = Other()

        assert servant.offer("math", other) == ("sub",)
        assert servant.object_of("math") is other
        assert isinstance(call(servant, "add")[1], UsageError)

    def test_what_is_no_service_is_refused(self, servant: Servant) -> None:
        """
        A service has a proper name and at least one public method.
        """
        with pytest.raises(UsageError, match="has no public method"):
            servant.offer("empty", object())
        with pytest.raises(UsageError, match="no service name"):
            servant.offer("a b", Math())

    def test_a_handler_knows_whose_calls_led_to_it(self, servant: Servant) -> None:
        """
        While a handler runs, the chain ends with its own call, and its deadline is the call's.
        """
        seen: list[object] = []

        class Looker:
            def look(self) -> None:
                seen.append((TURN.chain, TURN.deadline))

        servant.offer("looker", Looker())
        frame = pack_call(PACK, 7, "looker", "look", (), {}, FOREVER, [[1, 5, "app"]])
        servant.serve(unpack_call(frame), 2, "caller", PACK)

        assert seen == [(([1, 5, "app"], [2, 7, "caller"]), FOREVER)]
        assert TURN.chain == ()

    def test_methods_are_found_on_the_class(self) -> None:
        """
        What an object happens to hold is not offered.
        """
        service = Math()
        service.extra = print  # type: ignore[attr-defined]

        assert public_methods(service) == ("add", "fail", "large", "leave", "odd", "unreadable")
