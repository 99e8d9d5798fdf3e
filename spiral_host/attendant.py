"""What an application's own code is run for: event callbacks, and calls of its services.

In a thread apart from the connection's, so that a callback may use the host like any other code.
"""

from collections.abc import Callable

from protocol.follower import Delivery
from protocol.messages import LaneOpened
from protocol.servant import Servant
from protocol.serving import ServingThread
from protocol.subscriptions import Subscriptions


class Uncounted:
    """A client's calls are not counted: it has no flight page."""

    def count_call(self) -> None:
        """Do nothing."""

    def count_error(self) -> None:
        """Do nothing."""


class Attendant:
    """Runs user code for one connection.

    Args:
        own: Gives the client's incarnation.
        lane_closed: Called with the number of a lane whose caller is gone.
    """

    def __init__(self, own: Callable[[], int], lane_closed: Callable[[int], object]) -> None:
        self.servant = Servant(Uncounted())
        self.subscriptions = Subscriptions()
        self._thread = ServingThread("spiral-host callbacks", self.servant, own, lane_closed)

    def deliver(self, delivery: Delivery) -> None:
        """Have the callbacks called for a run or a gap."""
        self._thread.do(lambda: self.subscriptions.deliver(delivery))

    def serve(self, opened: LaneOpened, fd: int) -> None:
        """Serve the calls that come on a lane."""
        self._thread.serve(opened, fd)

    def close(self) -> None:
        """Stop, after what is running."""
        self._thread.close()
