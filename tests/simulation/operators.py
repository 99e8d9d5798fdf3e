"""A simulated person at a client: orders things, asks again after each daemon's death."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protocol.messages import (
    FROM_CLIENT,
    TO_CLIENT,
    Answer,
    ClientDetails,
    ClientWelcome,
    InitializeAll,
    LoadPlugins,
    Place,
    Refusal,
    Refused,
    RestartPlugin,
    UnloadPlugin,
)
from protocol.session import greeting
from spiral_host.orders import Order
from tests.simulation.hours import Connection, Life

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(slots=True)
class Asked:
    """An order that has not been answered yet."""

    order: Order
    spawns: int


class Operator:
    """One client, for as long as the world."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.pending: dict[str, Asked] = {}
        self.answered: Counter[str] = Counter()
        self._world = world
        self._life = Life(world.hours)
        self._link: Connection | None = None
        self._is_welcome = False
        self._incarnation = 0
        self._asked = 0

    # --- its connection, as spiral_host/client.py keeps it ----------------------------------------

    def connect(self) -> None:
        """Connect to the daemon that is there, and greet it."""
        if self._link is None:
            self._link = self._world.connect(self._received, self._lost)
            if self._link is not None:
                details = ClientDetails(
                    name=self.name, pid=1, incarnation=self._incarnation, offers=()
                )
                self._link.say(greeting("client", FROM_CLIENT, details))

    def reconnect(self) -> None:
        """Notice, a moment later, that there is a daemon again."""
        self._life.call_later(self._world.rng.uniform(0.02, 0.2), self.connect)

    def _lost(self) -> None:
        self._link, self._is_welcome = None, False
        self.reconnect()

    def _send(self, order: Order) -> None:
        if self._link is not None and self._is_welcome:
            self._link.say(FROM_CLIENT.encode(order))

    def _received(self, body: bytes) -> None:
        message = TO_CLIENT.decode(body)
        assert not isinstance(message, Refused), message
        if isinstance(message, Answer | Refusal):
            self._replied(message)
        elif isinstance(message, ClientWelcome):
            self._incarnation = message.incarnation
            if not self._is_welcome:
                self._is_welcome = True
                for asked in tuple(self.pending.values()):
                    self._send(asked.order)

    def _replied(self, reply: Answer | Refusal) -> None:
        self.answered[reply.request] += 1
        said = reply.fields if isinstance(reply, Refusal) else reply.value
        self._world.note(f"{reply.request}: {type(reply).__name__} {said}")
        asked = self.pending.pop(reply.request, None)
        self._world.judge.replied(self, asked, reply)

    # --- what it wants ----------------------------------------------------------------------------

    def ask(self, order: Order) -> None:
        """Give an order."""
        plugin_id = order.plugin_id if isinstance(order, RestartPlugin | UnloadPlugin) else ""
        self._world.note(f"{order.request}: {type(order).__name__} {plugin_id}")
        self._world.judge.asked(order)
        self.pending[order.request] = Asked(order, self._world.judge.spawns[plugin_id])
        self._send(order)

    def _request(self) -> str:
        self._asked += 1
        return f"{self.name}:{self._asked}"

    def load(self, *plugin_ids: str) -> None:
        """Load plugins together."""
        places = tuple(Place(str(self._world.folder / one)) for one in plugin_ids)
        self.ask(LoadPlugins(self._request(), places))

    def unload(self, plugin_id: str) -> None:
        """Unload a plugin."""
        self.ask(UnloadPlugin(self._request(), plugin_id))

    def restart(self, plugin_id: str) -> None:
        """Restart a plugin."""
        self.ask(RestartPlugin(self._request(), plugin_id))

    def initialize(self) -> None:
        """Wait until everything has settled."""
        self.ask(InitializeAll(self._request()))

    def act(self) -> None:
        """Do one thing that people do."""
        rng, names = self._world.rng, list(self._world.code)
        what = rng.choices(["load", "unload", "restart", "initialize", "edit"], [4, 3, 3, 1, 2])[0]
        if what == "load":
            self.load(*sorted(rng.sample(names, rng.randint(1, len(names)))))
        elif what == "initialize":
            self.initialize()
        elif what == "edit":
            self._world.edit(rng.choice(names))
        else:
            (self.unload if what == "unload" else self.restart)(rng.choice(names))
