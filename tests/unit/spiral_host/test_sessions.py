from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from protocol.messages import (
    FROM_CLIENT,
    FROM_NODE,
    FROM_WORKER,
    HELLO,
    TO_CLIENT,
    TO_NODE,
    AdmitClient,
    Answer,
    Cause,
    ClientDetails,
    ClientLeft,
    ClientWelcome,
    Confined,
    Denied,
    Exited,
    ExpelClient,
    FromClient,
    FromNode,
    GetConfig,
    GetStatus,
    GrantLane,
    Hello,
    LaneFailed,
    ListPlugins,
    ListServices,
    NodeDetails,
    NodeWelcome,
    Offer,
    Refusal,
    Refused,
    Relay,
    Resolve,
    Samples,
    SetConfig,
    ShutDown,
    Spawned,
    SpawnFailed,
    ToClient,
    ToNode,
    Violated,
)
from protocol.session import greeting
from protocol.version import VERSION
from spiral_host.endpoint import Sent
from spiral_host.granting import Granting
from spiral_host.lifecycle import State
from spiral_host.orders import Orders
from spiral_host.questions import Asker
from spiral_host.refusals import Refusals
from spiral_host.relayed import WorkerFrames
from spiral_host.sessions import CLIENT_BIT, MAX_CLIENTS, Sessions
from tests.unit.spiral_host.fakes import EPOCH, LAYERS, House, manifest

NODE = b"node"
FIRST = EPOCH << 32 | CLIENT_BIT | 1


@dataclass
class FakeDaemon:
    """What sessions need of the daemon: a socket, and somebody to tell."""

    epoch: int = EPOCH
    sent: list[tuple[bytes, bytes]] = field(default_factory=list)
    outcome: Sent = Sent.YES
    deaf: int = 0
    heard: int = 0
    arrived: list[NodeDetails] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    refused: list[Denied] = field(default_factory=list)

    def send_control(self, peer: bytes, body: bytes) -> Sent:
        self.sent.append((peer, body))
        return self.outcome

    def node_told(self) -> None:
        """Hear that the node has told everything."""

    def node_deaf(self) -> None:
        self.deaf += 1

    def node_heard(self) -> None:
        self.heard += 1

    def node_arrived(self, details: NodeDetails) -> None:
        self.arrived.append(details)

    def denied(self, denied: Denied) -> None:
        self.refused.append(denied)

    def samples_arrived(self, samples: Samples) -> None:
        self.samples.append(samples)

    def look(self, asker: Asker, question: ListPlugins | GetStatus) -> None:
        asker.reply(Answer(question.request, "looked"))

    def client_left(self, incarnation: int) -> None:
        self.left.append(incarnation)


class Lobby:
    """Sessions around a house, and the peers that talk to them."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.daemon = FakeDaemon()
        self.stopped = 0
        orders = Orders(
            house.registry,
            house.supervisor,
            {},
            house.outside.write,
            house.outside.publish,
            self._stop,
        )
        workers = WorkerFrames(
            house.registry, house.supervisor, house.questions, house.node.tell_node
        )
        self.sessions = Sessions(
            self.daemon,
            house.registry,
            house.supervisor,
            house.questions,
            orders,
            Granting(
                house.registry,
                house.supervisor,
                house.permits,
                Refusals(),
                orders,
                {},
                house.outside,
            ),
            workers,
            Path("/run/node.sock"),
        )

    def _stop(self) -> None:
        self.stopped += 1

    def node_greets(self, peer: bytes = NODE, name: str = "node:a") -> None:
        who = replace(details(), name=name)
        self.sessions.received(peer, [greeting("node", FROM_NODE, who)])

    def node_says(self, message: FromNode) -> None:
        self.sessions.received(NODE, [FROM_NODE.encode(message)])

    def client_greets(
        self, peer: bytes, *offers: Offer, incarnation: int = 0, name: str = "train"
    ) -> None:
        details = ClientDetails(name=name, pid=1, incarnation=incarnation, offers=offers)
        self.sessions.received(peer, [greeting("client", FROM_CLIENT, details)])

    def client_says(self, peer: bytes, message: FromClient) -> None:
        self.sessions.received(peer, [FROM_CLIENT.encode(message)])

    def to_node(self, peer: bytes = NODE) -> list[ToNode]:
        """Give what was sent to the node since the last look."""
        return [TO_NODE.decode(body) for body in self._take(peer)]

    def to_client(self, peer: bytes) -> list[ToClient]:
        """Give what was sent to a client since the last look."""
        return [TO_CLIENT.decode(body) for body in self._take(peer)]

    def _take(self, peer: bytes) -> list[bytes]:
        mine = [body for to, body in self.daemon.sent if to == peer]
        self.daemon.sent = [(to, body) for to, body in self.daemon.sent if to != peer]
        return mine

    def refused(self, peer: bytes) -> str:
        """Give the reason of the one refusal that a peer was sent since the last look."""
        (refused,) = self.to_client(peer)
        assert isinstance(refused, Refused), refused
        return refused.reason


def details() -> NodeDetails:
    return NodeDetails(
        name="node:a",
        pid=7,
        socket="/run/node.sock",
        sandbox="standard",
        missing={},
        workers=(),
        exits=(),
    )


@pytest.fixture
def lobby(house: House) -> Lobby:
    """A daemon whose node has greeted and that lets clients in."""
    lobby = Lobby(house)
    lobby.node_greets()
    lobby.sessions.let_clients_in()
    lobby.to_node()
    return lobby


class TestGreeting:
    def test_a_node_is_welcomed(self, house: House) -> None:
        """
        It learns the daemon's number, and the daemon what it runs.
        """
        lobby = Lobby(house)
        lobby.node_greets()

        assert lobby.to_node() == [NodeWelcome(EPOCH)]
        assert lobby.daemon.arrived == [details()]

    def test_the_last_words_of_a_node_that_has_died_are_nobodys(self, lobby: Lobby) -> None:
        """
        Its death may be known before they have come; they make it no node again, and are no fault.
        """
        lobby.sessions.node_lost("node:b")
        lobby.node_greets(b"B", "node:b")
        lobby.sessions.received(b"B", [FROM_NODE.encode(Spawned(1, 2))])
        lobby.node_says(Spawned(1, 2))

        assert lobby.daemon.arrived == [details()]
        assert lobby.daemon.sent == []
        assert lobby.sessions.violations == 0

    def test_what_a_worker_waited_for_dies_with_it(self, lobby: Lobby) -> None:
        """
        Or one that crashes all the time would leave more and more questions behind.
        """
        lobby.house.add_ready(manifest("base"))
        life = lobby.house.incarnation("base")
        asked = Resolve(request="q", service="later", wait_s=3600.0)
        lobby.node_says(Relay(life, FROM_WORKER.encode(asked)))
        assert lobby.house.questions._parked
        lobby.node_says(Exited(incarnation=life, plugin_id="base", cause=Cause(kind="exit")))

        assert not lobby.house.questions._parked

    def test_those_of_a_lost_node_too(self, lobby: Lobby) -> None:
        """
        Clients wait on.
        """
        lobby.client_greets(b"A")
        lobby.client_says(b"A", Resolve(request="q", service="later", wait_s=60.0))
        lobby.house.add_ready(manifest("base"))
        asked = Resolve(request="q", service="later", wait_s=3600.0)
        life = lobby.house.incarnation("base")
        lobby.node_says(Relay(life, FROM_WORKER.encode(asked)))
        lobby.sessions.node_lost("node:a")

        (left,) = lobby.house.questions._parked["later"]
        assert left.asker.incarnation == FIRST

    def test_who_is_there_is_known_by_the_name_it_has_on_the_bus(self, lobby: Lobby) -> None:
        """
        The node, and each client by its number, for as long as they are there.
        """
        lobby.client_greets(b"A")
        known = ["node:a", f"client:{FIRST}"]
        assert [name for name in (*known, "", "client:7") if lobby.sessions.knows(name)] == known

        lobby.node_says(ClientLeft(FIRST))
        lobby.sessions.node_lost("node:a")

        assert not any(map(lobby.sessions.knows, (*known, "")))

    def test_a_client_is_welcomed_and_admitted(self, lobby: Lobby) -> None:
        """
        Client and node are given the same ticket.
        """
        lobby.client_greets(b"A")

        (welcome,) = lobby.to_client(b"A")
        (admit,) = lobby.to_node()
        assert isinstance(welcome, ClientWelcome)
        assert isinstance(admit, AdmitClient)
        assert welcome.incarnation == admit.incarnation == FIRST
        assert welcome.ticket == admit.ticket
        assert (welcome.node_socket, admit.name) == ("/run/node.sock", "app:train")

    def test_tickets_are_not_given_twice(self, lobby: Lobby) -> None:
        """
        Each opens the node's door for one client.
        """
        lobby.client_greets(b"A")
        lobby.client_greets(b"B")

        tickets = {admit.ticket for admit in lobby.to_node() if isinstance(admit, AdmitClient)}
        assert len(tickets) == 2

    def test_clients_wait_until_the_node_is_there(self, house: House) -> None:
        """
        One that comes early is greeted when it can be answered.
        """
        lobby = Lobby(house)
        lobby.client_greets(b"A")
        assert lobby.to_client(b"A") == []

        lobby.node_greets()
        lobby.sessions.let_clients_in()

        assert isinstance(lobby.to_client(b"A")[0], ClientWelcome)

    def test_a_client_that_comes_back_keeps_its_number(self, lobby: Lobby) -> None:
        """
        Its answers go to the newer connection.
        """
        lobby.client_greets(b"A", incarnation=FIRST + 6)
        lobby.client_greets(b"B", incarnation=FIRST + 6)
        (welcome,) = lobby.to_client(b"B")
        assert isinstance(welcome, ClientWelcome)
        assert welcome.incarnation == FIRST + 6

        lobby.client_says(b"B", ListServices("q"))

        assert lobby.to_client(b"B") == [Answer("q", [])]
        assert lobby.daemon.left == []

    def test_a_workers_number_is_not_taken(self, lobby: Lobby) -> None:
        """
        A client that claims to be a worker gets a client's number.
        """
        lobby.client_greets(b"A", incarnation=EPOCH << 32 | 1)

        (welcome,) = lobby.to_client(b"A")
        assert isinstance(welcome, ClientWelcome)
        assert welcome.incarnation == FIRST

    def test_its_services_are_there_again(self, lobby: Lobby) -> None:
        """
        What a client offered to the last daemon it states in its greeting.
        """
        lobby.client_greets(b"A", Offer(service="gate", methods=("open",), idempotent=()))

        provider = lobby.house.registry.provider("gate")
        assert provider is not None
        assert provider.owner == "app:train"

    def test_a_name_can_do_no_harm(self, lobby: Lobby) -> None:
        """
        What cannot be shown is left out, and a long name is cut.
        """
        lobby.client_greets(b"A", name="\x1b[31m" + "x" * 500)

        (admit,) = lobby.to_node()
        assert isinstance(admit, AdmitClient)
        assert admit.name == "app:[31m" + "x" * 96

    def test_a_new_node_admits_those_who_are_there(self, lobby: Lobby) -> None:
        """
        Clients outlive a node; each gets a ticket for the next one.
        """
        lobby.client_greets(b"A")
        lobby.to_node()
        lobby.to_client(b"A")
        lobby.sessions.node_lost("node:a")
        lobby.node_greets(b"N", "node:b")

        welcome, admit = lobby.to_node(b"N")
        assert welcome == NodeWelcome(EPOCH)
        assert isinstance(admit, AdmitClient)
        assert isinstance(lobby.to_client(b"A")[0], ClientWelcome)


class TestRefused:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xc1",
            FROM_CLIENT.encode(ListServices("q")),
            HELLO.encode(Hello(VERSION, "worker", b"")),
            HELLO.encode(Hello(VERSION, "client", b"\xc1")),
            greeting("client", FROM_CLIENT, ListServices("q")),
            greeting("node", FROM_NODE, Spawned(1, 2)),
        ],
    )
    def test_who_does_not_greet_is_refused(self, lobby: Lobby, body: bytes) -> None:
        """
        Nothing is accepted before a proper greeting, and the peer is told why.
        """
        lobby.sessions.received(b"X", [body])

        assert lobby.refused(b"X")
        assert lobby.sessions.violations == 1
        assert lobby.to_node() == []

    def test_another_version_is_named(self, lobby: Lobby) -> None:
        """
        Both versions stand in the text.
        """
        lobby.sessions.received(b"X", [HELLO.encode(Hello(VERSION + 1, "client", b""))])

        reason = lobby.refused(b"X")
        assert f"version {VERSION + 1} met version {VERSION}" in reason

    @pytest.mark.parametrize("frames", [[], [b"a", b"b"]])
    def test_a_message_has_one_frame(self, lobby: Lobby, frames: list[bytes]) -> None:
        """
        Whoever sends several speaks something else.
        """
        lobby.sessions.received(b"X", frames)

        assert lobby.refused(b"X") == "a message of several frames"

    def test_too_many_clients_are_refused(self, lobby: Lobby) -> None:
        """
        Those who are there are not disturbed.
        """
        for number in range(MAX_CLIENTS):
            lobby.client_greets(b"%d" % number)
        lobby.client_greets(b"X")

        assert "512 clients already" in lobby.refused(b"X")

    def test_a_client_that_breaks_the_protocol_is_gone(self, lobby: Lobby) -> None:
        """
        With its services, and nobody else notices.
        """
        lobby.client_greets(b"A", Offer(service="gate", methods=(), idempotent=()))
        lobby.client_greets(b"B")
        lobby.to_client(b"A")
        lobby.to_node()

        lobby.sessions.received(b"A", [b"\xc1"])

        assert lobby.refused(b"A")
        assert lobby.to_node() == [ExpelClient(FIRST)]
        assert lobby.house.registry.provider("gate") is None
        assert lobby.daemon.left == [FIRST]
        lobby.client_says(b"B", ListServices("q"))
        assert lobby.to_client(b"B")[-1] == Answer("q", [])

    def test_a_greeting_with_a_wrong_offer_leaves_nothing(self, lobby: Lobby) -> None:
        """
        A client that is refused is not half there.
        """
        lobby.client_greets(b"A", Offer(service="no name", methods=(), idempotent=()))

        *_, refused = lobby.to_client(b"A")
        assert isinstance(refused, Refused)
        assert lobby.daemon.left == [FIRST]

    def test_a_node_that_breaks_the_protocol_is_told(self, lobby: Lobby) -> None:
        """
        It stops by itself when it reads that.
        """
        lobby.sessions.received(NODE, [b"\xc1"])

        (refused,) = lobby.to_node()
        assert isinstance(refused, Refused)


class TestNode:
    def test_what_it_reports_goes_to_those_who_decide(self, lobby: Lobby) -> None:
        """
        A worker's life as the node tells it.
        """
        house = lobby.house
        house.add(manifest("base"))
        life = house.incarnation("base")
        lobby.node_says(Spawned(life, 41))
        lobby.node_says(Confined(life, LAYERS))
        assert (house.plugin("base").pid, house.plugin("base").layers) == (41, LAYERS)

        cause = Cause(kind="signal", code=11)
        lobby.node_says(Exited(incarnation=life, plugin_id="base", cause=cause))

        assert house.states() == {"base": State.BACKOFF}

    @pytest.mark.parametrize(
        ("build", "reason"),
        [
            (lambda life: SpawnFailed(life, "no memory"), "could not be started: no memory"),
            (lambda life: Violated(life, "nonsense"), ""),
        ],
    )
    def test_what_went_wrong_is_its_plugins(
        self, lobby: Lobby, build: Callable[[int], FromNode], reason: str
    ) -> None:
        """
        One plugin is concerned, and the others are not.
        """
        lobby.house.add(manifest("base"), manifest("other"))
        lobby.node_says(build(lobby.house.incarnation("base")))

        assert lobby.house.plugin("base").lifecycle.reason == reason
        assert lobby.house.states()["other"] is State.STARTING

    def test_figures_go_to_the_daemon(self, lobby: Lobby) -> None:
        """
        Whoever has asked for them waits there.
        """
        lobby.node_says(Samples("q", ()))

        assert lobby.daemon.samples == [Samples("q", ())]

    def test_a_failed_lane_is_its_askers(self, lobby: Lobby) -> None:
        """
        The client that asked is told.
        """
        lobby.client_greets(b"A", Offer(service="gate", methods=(), idempotent=()))
        lobby.client_greets(b"B")
        lobby.client_says(b"B", Resolve(request="q", service="gate", wait_s=0.0))
        (grant,) = lobby.house.node.take(GrantLane)
        lobby.to_client(b"B")

        lobby.node_says(LaneFailed(grant.lane, "too many lanes", gone=False))

        (refusal,) = lobby.to_client(b"B")
        assert isinstance(refusal, Refusal)

    def test_a_client_that_left_is_forgotten(self, lobby: Lobby) -> None:
        """
        Its services and its questions go with it.
        """
        lobby.client_greets(b"A", Offer(service="gate", methods=(), idempotent=()))
        lobby.client_says(b"A", Resolve(request="q", service="later", wait_s=60.0))
        lobby.node_says(ClientLeft(FIRST))
        lobby.node_says(ClientLeft(FIRST))

        assert lobby.daemon.left == [FIRST]
        assert lobby.house.registry.provider("gate") is None
        assert lobby.house.reactor.due == []

    def test_it_may_greet_again(self, lobby: Lobby) -> None:
        """
        A node whose messages were lost says anew what it runs, on the same connection.
        """
        lobby.node_greets()

        assert lobby.to_node() == [NodeWelcome(EPOCH)]
        assert len(lobby.daemon.arrived) == 2

    def test_one_that_is_lost_is_told_nothing(self, lobby: Lobby) -> None:
        """
        Orders to nobody are dropped; the next greeting sets all right.
        """
        lobby.sessions.node_lost("node:a")
        lobby.sessions.tell_node(ExpelClient(1))

        assert lobby.to_node() == []

    @pytest.mark.parametrize(("outcome", "deaf"), [(Sent.DEAF, 1), (Sent.GONE, 0), (Sent.YES, 0)])
    def test_one_that_does_not_read_is_given_up(
        self, lobby: Lobby, outcome: Sent, deaf: int
    ) -> None:
        """
        What it has not read for so long counts for nothing; one that is gone tells by itself.
        """
        lobby.daemon.outcome = outcome
        lobby.sessions.tell_node(ExpelClient(1))

        assert lobby.daemon.deaf == deaf


class TestClient:
    @pytest.fixture(autouse=True)
    def client(self, lobby: Lobby) -> None:
        lobby.client_greets(b"A")
        lobby.to_client(b"A")
        lobby.to_node()

    @pytest.mark.parametrize("question", [GetStatus("q"), ListPlugins("q", fresh=True)])
    def test_it_may_look(self, lobby: Lobby, question: FromClient) -> None:
        """
        How things are is the daemon's to say.
        """
        lobby.client_says(b"A", question)

        assert lobby.to_client(b"A") == [Answer("q", "looked")]

    def test_it_may_order(self, lobby: Lobby) -> None:
        """
        Orders are carried out and answered.
        """
        lobby.client_says(b"A", ShutDown("q"))

        assert lobby.to_client(b"A") == [Answer("q", None)]
        assert lobby.stopped == 1

    def test_it_may_ask_what_workers_may(self, lobby: Lobby) -> None:
        """
        Configuration, services, capabilities: the same answers.
        """
        lobby.client_says(b"A", SetConfig("q", "a", "1"))

        assert lobby.to_client(b"A") == [Answer("q", None)]
        assert lobby.house.config == {"a": "1"}

    def test_an_answer_finds_it_on_its_next_connection(self, lobby: Lobby) -> None:
        """
        A question asked before the connection broke is answered on the new one.
        """
        lobby.house.outside.is_slow = True
        lobby.client_says(b"A", SetConfig("q", "a", "1"))
        lobby.client_greets(b"A2", incarnation=FIRST)
        lobby.to_client(b"A2")

        lobby.house.outside.write_all()

        assert lobby.to_client(b"A2") == [Answer("q", None)]
        assert lobby.to_client(b"A") == []

    def test_an_answer_that_cannot_travel_is_a_refusal(self, lobby: Lobby) -> None:
        """
        Whoever asks for more than a message holds is told so, and stays connected.
        """
        for number in range(40):
            lobby.house.config[f"k{number}"] = "x" * 60_000
        lobby.client_says(b"A", GetConfig("q", ""))

        (refusal,) = lobby.to_client(b"A")
        assert isinstance(refusal, Refusal)
        assert lobby.sessions.violations == 0
