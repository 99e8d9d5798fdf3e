"""Answer those who have seen the end of a lane and ask how its other end has ended. No clock.

A process closes its descriptors some time before it is known to have ended, and whoever is at the
other end of a lane sees that first. So a question is answered by looking at the process: if it ends
its death will be told, which is the answer; if it does not, it lives and has closed the lane.
"""

from collections.abc import Callable

from protocol.messages import Explain, Unexplained


class Causes:
    """Who waits for which death; lives as long as the node.

    Args:
        send: Sends an endpoint its answer.
        tied: Says whether two endpoints have a lane with each other; others are told nothing.
        is_ending: Says whether a worker is about to be gone, but is not yet.
    """

    def __init__(
        self,
        send: Callable[[int, Unexplained], object],
        tied: Callable[[int, int], bool],
        is_ending: Callable[[int], bool],
    ) -> None:
        self._send = send
        self._tied = tied
        self._is_ending = is_ending
        self._askers: dict[int, set[int]] = {}

    def asked(self, asker: int, question: Explain) -> None:
        """Answer a question, now or by what `askers` gives."""
        peer = question.incarnation
        if self._tied(asker, peer) and self._is_ending(peer):
            self._askers.setdefault(peer, set()).add(asker)
        else:
            self._send(asker, Unexplained(question.request))

    def askers(self, incarnation: int) -> set[int]:
        """Give those who wait for a death that is now to be told; they wait no more."""
        return self._askers.pop(incarnation, set())
