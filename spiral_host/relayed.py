"""What workers say to the daemon, in frames that the node relayed unread: all of it untrusted.

A frame that is none, or an offer that cannot be meant, ends its worker and nobody else.
"""

from collections.abc import Callable

from protocol.errors import LocalProtocolError, SpiralHostError, to_wire
from protocol.messages import (
    FROM_WORKER,
    TO_WORKER,
    Answer,
    Broken,
    Described,
    Loaded,
    Offer,
    Question,
    Refusal,
    Relay,
    ToNode,
    Withdraw,
)
from spiral_host.questions import Asker, Questions
from spiral_host.registry import Registry
from spiral_host.supervisor import Supervisor


class WorkerFrames:
    """Reads workers' frames; lives as long as the daemon."""

    def __init__(
        self,
        registry: Registry,
        supervisor: Supervisor,
        questions: Questions,
        tell_node: Callable[[ToNode], None],
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._questions = questions
        self._tell_node = tell_node

    def received(self, incarnation: int, body: bytes) -> None:
        """Take in one frame."""
        try:
            self._said(incarnation, body)
        except SpiralHostError as error:
            self._supervisor.violated(incarnation, str(error))

    def _said(self, incarnation: int, body: bytes) -> None:
        message = FROM_WORKER.decode(body)
        if isinstance(message, Described):
            self._supervisor.described(incarnation, message)
        elif isinstance(message, Broken):
            self._supervisor.broken(incarnation, message)
        elif isinstance(message, Loaded):
            self._supervisor.loaded(incarnation)
        else:
            plugin = self._registry.by_incarnation(incarnation)
            if plugin is not None:
                reply = self._reply_to(incarnation)
                self.asked(Asker(incarnation, plugin.id, reply, plugin.permissions), message)

    def asked(self, asker: Asker, message: Offer | Withdraw | Question) -> None:
        """Take in what workers and clients may say alike."""
        if isinstance(message, Offer):
            self._questions.offer(asker, message)
            self._questions.look_again(message.service)
            self._supervisor.announce(message.service)
        elif isinstance(message, Withdraw):
            self._registry.withdraw(message.service, asker.incarnation)
            self._supervisor.announce(message.service)
        else:
            self._questions.ask(asker, message)

    def _reply_to(self, incarnation: int) -> Callable[[Answer | Refusal], None]:
        def reply(answer: Answer | Refusal) -> None:
            # Never raises: it is called whenever there is an answer, in anybody's turn.
            try:
                self._tell_node(Relay(incarnation, TO_WORKER.encode(answer)))
            except LocalProtocolError as error:
                refusal = Refusal(answer.request, *to_wire(error))
                self._tell_node(Relay(incarnation, TO_WORKER.encode(refusal)))

        return reply
