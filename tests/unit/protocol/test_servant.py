from typing import Protocol

import pytest

from protocol.errors import UsageError
from protocol.servant import Servant, service
from tests.unit.protocol.lines_parts import Counter, Dynamic


class Math:
    """A service with what a service may have."""

    constant = 5

    def add(self, a: int, b: int = 1) -> int:
        return a + b

    @service(idempotent=True)
    def zero(self) -> int:
        return 0

    @service(idempotent=False)
    def push(self) -> None:
        return None

    async def later(self) -> None:
        return None

    async def rows(self) -> Dynamic:
        yield 1

    def _secret(self) -> None:
        """Not for others."""

    def naïve(self) -> None:  # noqa: PLC2401 - on purpose
        """Not for others either: its name cannot travel."""


class Adds(Protocol):
    """What a service may be offered as."""

    def add(self, a: int) -> int:
        """Add."""


@pytest.fixture
def servant() -> Servant:
    servant = Servant(Counter())
    servant.offer("math", Math())
    return servant


class TestOffer:
    def test_public_methods_are_offered(self, servant: Servant) -> None:
        """
        What is no public method does not exist for others, nor what an object happens to hold.
        """
        math = Math()
        math.extra = print  # type: ignore[attr-defined]

        assert servant.offer("math", math).methods == ("add", "later", "push", "rows", "zero")

    def test_what_may_be_called_again_is_told(self, servant: Servant) -> None:
        """
        Its author says so of each method; of the others nobody may think so.
        """
        (offer,) = servant.offers

        assert offer.idempotent == ("zero",)

    def test_a_protocol_hides_the_rest(self, servant: Servant) -> None:
        """
        Offered as something, a service has its methods only.
        """
        offer = servant.offer("math", Math(), Adds)

        assert (offer.methods, offer.idempotent) == (("add",), ())
        assert servant.targets.get(("math", "zero")) is None

    def test_what_is_no_service_is_refused(self, servant: Servant) -> None:
        """
        A service has a proper name, at least one public method, and what it is offered as.
        """
        with pytest.raises(UsageError, match="has no public method"):
            servant.offer("empty", object())
        with pytest.raises(UsageError, match="no service name"):
            servant.offer("a b", Math())
        with pytest.raises(UsageError, match="has no method add"):
            servant.offer("math", Counter(), Adds)

        assert [offer.service for offer in servant.offers] == ["math"]

    def test_a_service_can_be_replaced(self, servant: Servant) -> None:
        """
        The newest object of a name is the one that is called, and it alone.
        """

        class Other:
            def sub(self) -> int:
                return 0

        other = Other()
        servant.offer("math", other)

        assert servant.object_of("math") is other
        assert servant.targets.get(("math", "sub")) is not None
        assert servant.targets.get(("math", "add")) is None

    def test_a_service_can_be_taken_back(self, servant: Servant) -> None:
        """
        A withdrawn service is not offered any more; taking it back twice is harmless.
        """
        servant.offer("more", Math())
        assert servant.withdraw("math")
        assert not servant.withdraw("math")

        assert [offer.service for offer in servant.offers] == ["more"]
        assert servant.object_of("math") is None
        assert servant.targets.get(("math", "add")) is None
        assert servant.targets.get(("more", "add")) is not None


class TestTargets:
    def test_a_target_is_the_method_it_was(self, servant: Servant) -> None:
        """
        What is called is the object's method, with the name that people read.
        """
        target = servant.targets.get(("math", "add"))

        assert target is not None
        assert (target.name, target.function(2)) == ("math.add", 3)

    def test_who_needs_an_event_loop_is_known(self, servant: Servant) -> None:
        """
        `async def`, with `yield` or without, is told from plain methods before it is called.
        """
        methods = ("add", "later", "rows")
        targets = [servant.targets.get(("math", method)) for method in methods]

        assert [target and target.is_async for target in targets] == [False, True, True]

    @pytest.mark.parametrize("method", ["_secret", "__class__", "constant", "naïve", "sub", ""])
    def test_only_public_methods_can_be_called(self, servant: Servant, method: str) -> None:
        """
        There are no attribute walks, and the error names what there is.
        """
        assert servant.targets.get(("math", method)) is None
        assert "service math has no method" in str(servant.missing("math", method))
        assert "it has add" in str(servant.missing("math", method))

    def test_a_service_that_is_gone_is_named(self, servant: Servant) -> None:
        """
        Whoever calls a service that was taken back is told so; no name can spoil the text.
        """
        assert "not offered here any more" in str(servant.missing("more", "add"))
        assert "\n" not in str(servant.missing("a\nb", "c"))
        assert "\n" not in str(servant.missing("math", "c\nd"))
