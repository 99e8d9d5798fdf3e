"""What an application's own code is run for: event callbacks, and calls of its services.

In a thread apart from the connection's, so that a callback may use the host like any other code.
"""

from collections.abc import Callable

from protocol.callbacks import UNCOUNTED
from protocol.crew import ServingThread
from protocol.follower import Delivery
from protocol.line import Home
from protocol.messages import LaneOpened
from protocol.servant import Servant
from protocol.subscriptions import Subscriptions


class Attendant:
    """Runs user code for one connection.

    Args:
        home: The connection.
        lane_closed: Called with the number of a lane whose caller is gone.
    """

    def __init__(self, home: Home, lane_closed: Callable[[int], object]) -> None:
        self.servant = Servant(UNCOUNTED)
        self.subscriptions = Subscriptions()
        self._thread = ServingThread("spiral-host callbacks", self.servant, home, lane_closed)

    def deliver(self, delivery: Delivery) -> None:
        """Have the callbacks called for a run or a gap."""
        self._thread.do(lambda: self.subscriptions.deliver(delivery))

    def serve(self, opened: LaneOpened, fd: int) -> None:
        """Serve the calls that come on a lane."""
        self._thread.serve(opened, fd)

    def wake(self) -> None:
        """Have it look at what it waits for again."""
        self._thread.wake()

    def close(self) -> None:
        """Stop, after what is running."""
        self._thread.close()
