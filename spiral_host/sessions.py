"""Who is connected to the daemon, and what each of them may say.

A connection is new with every (re)connect: ZeroMQ gives it a routing id that is never used
again, and its first message must be a greeting. The node is believed, because we started it
under the same user; what its workers say comes wrapped in `Relay` and is not.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from protocol.errors import RemoteProtocolError, SpiralHostError
from protocol.messages import (
    FROM_CLIENT,
    FROM_NODE,
    TO_CLIENT,
    TO_NODE,
    AdmitClient,
    AllTold,
    Answer,
    ClientDetails,
    ClientLeft,
    ClientWelcome,
    Confined,
    Denied,
    Exited,
    ExpelClient,
    FromClient,
    FromNode,
    GetStatus,
    GrantPermissions,
    Heard,
    Hello,
    InitializeAll,
    LaneFailed,
    ListPermissions,
    ListPlugins,
    LoadPlugins,
    NodeDetails,
    NodeWelcome,
    Permitted,
    Refusal,
    Refused,
    Relay,
    Remains,
    RestartPlugin,
    RevokePermissions,
    Samples,
    ShutDown,
    Silent,
    Spawned,
    SpawnFailed,
    ToNode,
    UnloadPlugin,
    Violated,
)
from protocol.names import shown
from protocol.session import read_greeting
from spiral_host.endpoint import Sent
from spiral_host.granting import Granting
from spiral_host.orders import Orders
from spiral_host.questions import Asker, Questions
from spiral_host.registry import Registry
from spiral_host.relayed import WorkerFrames
from spiral_host.supervisor import Supervisor

if TYPE_CHECKING:
    from protocol.codec import Conversation

MAX_CLIENTS: Final = 512
"""Each costs the node a descriptor or more; libzmq aborts a process that has none left."""

CLIENT_BIT: Final = 1 << 31
"""Tells a client's incarnation from a worker's."""


@dataclass(slots=True)
class _Client:
    """One connected application or command."""

    incarnation: int
    name: str
    routing_id: bytes


class Host(Protocol):
    """What sessions need of the daemon."""

    epoch: int

    def send_control(self, peer: bytes, body: bytes) -> Sent:
        """Send on the control socket."""

    def node_deaf(self) -> None:
        """The node has stopped reading: nothing that is told it counts any more."""

    def node_heard(self) -> None:
        """The node has said something."""

    def node_arrived(self, details: NodeDetails) -> None:
        """The node has greeted us."""

    def node_told(self) -> None:
        """The node has told every fact of its workers."""

    def denied(self, denied: Denied) -> None:
        """A worker was refused something."""

    def samples_arrived(self, samples: Samples) -> None:
        """The node has measured its workers."""

    def look(self, asker: Asker, question: ListPlugins | GetStatus) -> None:
        """Say how things are."""

    def client_left(self, incarnation: int) -> None:
        """A client is gone for good."""


class Sessions:
    """Every connection of the control socket; lives as long as the daemon."""

    def __init__(
        self,
        host: Host,
        registry: Registry,
        supervisor: Supervisor,
        questions: Questions,
        orders: Orders,
        granting: Granting,
        workers: WorkerFrames,
        node_socket: Path,
    ) -> None:
        self.violations = 0
        """Messages that were none; their senders were refused."""
        self._host = host
        self._registry = registry
        self._supervisor = supervisor
        self._questions = questions
        self._orders = orders
        self._granting = granting
        self._workers = workers
        self._node_socket = str(node_socket)
        self._node: bytes = b""
        self._node_name = ""
        self._dead: set[str | bytes] = set()
        """Nodes that have ended, by name and connection: their last words may be still to come."""
        self._clients: dict[bytes, _Client] = {}
        self._waiting: list[tuple[bytes, bytes]] | None = []
        self._given = 0

    def knows(self, name: str) -> bool:
        """Say whether a peer of the bus by this name is a node or client that is connected."""
        if name and name == self._node_name:
            return True
        numbers = (client.incarnation for client in self._clients.values())
        return any(name == f"client:{number}" for number in numbers)

    def tell_node(self, message: ToNode) -> None:
        """Send to the node, if there is one."""
        if self._node and self._host.send_control(self._node, TO_NODE.encode(message)) is Sent.DEAF:
            self._host.node_deaf()

    def node_lost(self, name: str) -> None:
        """The node is gone; what a node says from now on, another says."""
        self._dead |= {name, self._node}
        self._node, self._node_name = b"", ""
        clients = {client.incarnation for client in self._clients.values()}
        self._questions.forget_all_but(clients)  # its workers are gone with it

    def let_clients_in(self) -> None:
        """Greet the clients that came while the daemon was still finding its feet."""
        waiting, self._waiting = self._waiting, None
        for peer, body in waiting or []:
            self.received(peer, [body])

    def received(self, peer: bytes, frames: list[bytes]) -> None:
        """Take in one message. A peer that breaks the protocol is refused; others never notice."""
        client = self._clients.get(peer)
        try:
            if len(frames) != 1:
                raise RemoteProtocolError("a message of several frames")
            if peer == self._node:
                self._host.node_heard()
                self._from_node(FROM_NODE.decode(frames[0]))
            elif client is not None:
                self._from_client(client, frames[0])
            elif peer not in self._dead:
                self._greeted(peer, frames[0])
        except SpiralHostError as error:
            self._refuse(peer, error)

    def _refuse(self, peer: bytes, error: SpiralHostError) -> None:
        self.violations += 1
        refused: Conversation[Refused] = TO_NODE if peer == self._node else TO_CLIENT  # type: ignore[assignment]
        self._host.send_control(peer, refused.encode(Refused(str(error))))
        client = self._clients.pop(peer, None)
        if client is not None:
            self._forget(client)

    # --- greetings --------------------------------------------------------------------------------

    def _greeted(self, peer: bytes, body: bytes) -> None:
        hello = read_greeting(body)
        if hello.role == "node":
            self._node_greeted(peer, FROM_NODE.decode(hello.body))
        elif hello.role == "client":
            self._client_greeted(peer, body, FROM_CLIENT.decode(hello.body))
        else:
            raise RemoteProtocolError(f"nothing here speaks with a {shown(hello.role)}")

    def _node_greeted(self, peer: bytes, details: FromNode) -> None:
        if not isinstance(details, NodeDetails):
            raise RemoteProtocolError("a greeting without details")
        if details.name in self._dead:
            self._dead.add(peer)  # taken for the node, it would have another one started beside
            return
        self._node, self._node_name = peer, details.name
        self.tell_node(NodeWelcome(self._host.epoch))
        for client in self._clients.values():
            self._admit(client)
        self._host.node_arrived(details)

    def _client_greeted(self, peer: bytes, body: bytes, details: FromClient) -> None:
        if not isinstance(details, ClientDetails):
            raise RemoteProtocolError("a greeting without details")
        if self._waiting is not None:
            self._waiting.append((peer, body))
            return
        if len(self._clients) >= MAX_CLIENTS:
            raise RemoteProtocolError(f"there are {MAX_CLIENTS} clients already; close one")
        incarnation = details.incarnation
        if not incarnation & CLIENT_BIT:
            self._given += 1
            incarnation = (self._host.epoch << 32) | CLIENT_BIT | self._given
        again = [key for key, known in self._clients.items() if known.incarnation == incarnation]
        for key in again:
            del self._clients[key]
        name = "".join(c for c in details.name if c.isprintable())[:100]
        client = _Client(incarnation, f"app:{name}", peer)
        self._clients[peer] = client
        self._admit(client)
        asker = self._asker(client)
        for offer in details.offers:
            self._questions.offer(asker, offer)
        self._questions.look_again()

    def _admit(self, client: _Client) -> None:
        ticket = secrets.token_bytes(16)
        admit = AdmitClient(incarnation=client.incarnation, name=client.name, ticket=ticket)
        self.tell_node(admit)
        welcome = ClientWelcome(
            epoch=self._host.epoch,
            incarnation=client.incarnation,
            ticket=ticket,
            node_socket=self._node_socket,
        )
        self._host.send_control(client.routing_id, TO_CLIENT.encode(welcome))

    # --- what the node says -----------------------------------------------------------------------

    def _from_node(self, message: FromNode) -> None:  # noqa: C901, PLR0912 - one line each
        if isinstance(message, Hello):
            self._node_greeted(self._node, FROM_NODE.decode(message.body))
        elif isinstance(message, Relay):
            self._workers.received(message.incarnation, message.body)
        elif isinstance(message, Spawned):
            self._supervisor.spawned(message.incarnation, message.pid)
        elif isinstance(message, Confined):
            self._supervisor.confined(message.incarnation, message.layers, message.limits)
        elif isinstance(message, Exited):
            self._questions.forget(message.incarnation)
            self._supervisor.exited(message)
        elif isinstance(message, SpawnFailed):
            self._supervisor.spawn_failed(message)
        elif isinstance(message, Violated):
            self._supervisor.violated(message.incarnation, message.reason)
        elif isinstance(message, Silent):
            self._supervisor.silent(message.incarnation, message.why)
        elif isinstance(message, Heard):
            self._supervisor.heard(message.incarnation)
        elif isinstance(message, Remains):
            self._supervisor.left(message)
        elif isinstance(message, Samples):
            self._host.samples_arrived(message)
        elif isinstance(message, Permitted):
            self._supervisor.permitted(message)
        elif isinstance(message, Denied):
            self._host.denied(message)
        elif isinstance(message, AllTold):
            self._host.node_told()
        elif isinstance(message, LaneFailed):
            self._questions.lane_failed(message)
        elif isinstance(message, ClientLeft):
            self._left(message.incarnation)

    # --- what a client says -----------------------------------------------------------------------

    def _from_client(self, client: _Client, body: bytes) -> None:
        message = FROM_CLIENT.decode(body)
        asker = self._asker(client)
        if isinstance(message, ListPlugins | GetStatus):
            self._host.look(asker, message)
        elif isinstance(
            message, LoadPlugins | UnloadPlugin | RestartPlugin | InitializeAll | ShutDown
        ):
            self._orders.give(asker, message)
        elif isinstance(message, GrantPermissions | RevokePermissions | ListPermissions):
            self._granting.give(asker, message)
        elif not isinstance(message, ClientDetails):
            self._workers.asked(asker, message)

    def _asker(self, client: _Client) -> Asker:
        def reply(answer: Answer | Refusal) -> None:
            try:
                body = TO_CLIENT.encode(answer)
            except SpiralHostError as error:
                body = TO_CLIENT.encode(Refusal(answer.request, "UsageError", (str(error),)))
            # The client may have come back on another connection since it asked.
            for now in self._clients.values():
                if now.incarnation == client.incarnation:
                    self._host.send_control(now.routing_id, body)

        return Asker(client.incarnation, client.name, reply, permissions=None)

    def _left(self, incarnation: int) -> None:
        for peer, client in tuple(self._clients.items()):
            if client.incarnation == incarnation:
                del self._clients[peer]
                self._forget(client)

    def _forget(self, client: _Client) -> None:
        self.tell_node(ExpelClient(client.incarnation))
        self._registry.withdraw_all(client.incarnation)
        self._questions.forget(client.incarnation)
        self._supervisor.announce()
        self._host.client_left(client.incarnation)
