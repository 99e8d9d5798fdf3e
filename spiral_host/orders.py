"""Carry out what people order: load, unload, restart, initialize, shut down.

An order may be given twice, by a client that lost its daemon and found the next one: it is
written down before it is carried out, and the second time it only waits for the same end.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias, cast

from protocol.errors import SpiralHostError, UsageError, to_wire
from protocol.events import PluginEvent, SystemInit, SystemShutdown
from protocol.messages import (
    Answer,
    InitializeAll,
    LoadPlugins,
    Place,
    Refusal,
    RestartPlugin,
    ShutDown,
    UnloadPlugin,
)
from spiral_host import store
from spiral_host.discovery import read_again
from spiral_host.lifecycle import State
from spiral_host.loading import Gathered, Gathering
from spiral_host.manifest import Manifest
from spiral_host.questions import Asker
from spiral_host.registry import Registry
from spiral_host.store import Statement
from spiral_host.supervisor import Supervisor, check_request
from spiral_host.views import shortened

STOPPING: Final = "the daemon is stopping; start it again first"

Order: TypeAlias = LoadPlugins | UnloadPlugin | RestartPlugin | InitializeAll | ShutDown
Row: TypeAlias = dict[str, object]


@dataclass(slots=True)
class _Waiting:
    """Somebody who is answered once something has come to its end."""

    is_over: Callable[[], bool]
    then: Callable[[], None]


class Orders:
    """Orders under way; lives as long as the daemon."""

    def __init__(
        self,
        registry: Registry,
        supervisor: Supervisor,
        remembered: dict[str, Any],
        write: Callable[[list[Statement], Callable[[], None] | None], None],
        publish: Callable[[PluginEvent], None],
        leave: Callable[[], None],
    ) -> None:
        self.is_leaving = False
        self._registry = registry
        self._supervisor = supervisor
        self._remembered = remembered
        self._write = write
        self._publish = publish
        self._leave = leave
        self._waiting: list[_Waiting] = []
        self._gathering: set[str] = set()
        self._claimed: dict[str, str] = {}
        """Where the plugins come from that are found and not in the registry yet, by id."""

    def give(self, asker: Asker, order: Order) -> None:
        """Carry out an order and answer it at its end, or refuse it."""
        try:
            if self.is_leaving and not isinstance(order, ShutDown):
                raise UsageError(STOPPING)
            self._begin(asker, order)
        except SpiralHostError as error:
            asker.reply(Refusal(order.request, *to_wire(error)))

    def _begin(self, asker: Asker, order: Order) -> None:
        if isinstance(order, LoadPlugins):
            self._load(asker, order)
        elif isinstance(order, UnloadPlugin):
            self._unload(asker, order)
        elif isinstance(order, RestartPlugin):
            self._restart(asker, order)
        elif isinstance(order, InitializeAll):
            self._initialize(asker, order)
        else:
            asker.reply(Answer(order.request, None))
            self.shut_down()

    def look_again(self) -> None:
        """Something changed: answer those whose end has come."""
        over = [item for item in self._waiting if item.is_over()]
        self._waiting = [item for item in self._waiting if item not in over]
        for item in over:
            item.then()

    def wait(self, is_over: Callable[[], bool], then: Callable[[], None]) -> None:
        """Call back once something is over; at once if it is."""
        self._waiting.append(_Waiting(is_over, then))
        self.look_again()

    def load_first(
        self, name: str, places: tuple[Place, ...], say: Callable[[str, str], None]
    ) -> None:
        """Load what the daemon was started with and initialize; say which are not ready, and why.

        A daemon that takes over another's run finds some of them loaded already; they stay.
        """
        before = {plugin.manifest.path for plugin in self._registry.plugins.values()}

        def loaded(answer: Answer | Refusal) -> None:
            rows = cast("list[dict[str, str]]", answer.value) if isinstance(answer, Answer) else []
            for row in rows:
                if row["state"] != State.READY.value and row["path"] not in before:
                    what = f"{row['id'] or row['path']}: {row['state']}: {row['reason']}"
                    say(what, row["traceback"])
            self.give(Asker(0, name, lambda _: None, None), InitializeAll(f"{name}:initialize"))

        self.give(Asker(0, name, loaded, None), LoadPlugins(f"{name}:load", places))

    # --- loading ----------------------------------------------------------------------------------

    def _load(self, asker: Asker, order: LoadPlugins) -> None:
        if order.request in self._gathering:
            return
        done = self._remembered.get(order.request)
        if done is not None:
            self._answer_load(asker, order.request, done["ids"], done["refused"])
            return
        self._gathering.add(order.request)
        describe = self._supervisor.describe

        def gathered(result: Gathered) -> None:
            self._gathered(asker, order, result)

        Gathering(order.places, self._claim, describe, gathered)

    def _claim(self, manifest: Manifest) -> str:
        plugin = self._registry.plugins.get(manifest.id)
        if plugin is not None:
            return plugin.manifest.path
        other = self._claimed.get(manifest.id, "")
        self._claimed.setdefault(manifest.id, manifest.path)
        return other

    def _gathered(self, asker: Asker, order: LoadPlugins, result: Gathered) -> None:
        ids = [manifest.id for manifest in result.manifests]
        if self.is_leaving:
            self._too_late(asker, order)
            return
        refused = [_refused(asdict(one)) for one in result.refused]
        self._remembered[order.request] = done = {"ids": ids, "refused": refused}
        wanted = [store.want(manifest) for manifest in result.manifests]

        def start() -> None:
            self._gathering.discard(order.request)
            for plugin_id in ids:
                del self._claimed[plugin_id]
            if self.is_leaving:
                self._write([store.forget(plugin_id) for plugin_id in ids], None)
                self._too_late(asker, order)
                return
            self._supervisor.add(result.manifests)
            self._answer_load(asker, order.request, ids, refused)

        self._write([*wanted, *store.begin(order.request, done)], start)

    def _too_late(self, asker: Asker, order: LoadPlugins) -> None:
        """Refuse what was found while the daemon began to stop."""
        asker.reply(Refusal(order.request, *to_wire(UsageError(STOPPING))))

    def _answer_load(self, asker: Asker, request: str, ids: list[str], refused: list[Row]) -> None:
        def answer() -> None:
            asker.reply(Answer(request, shortened([*refused, *map(self._loaded, ids)])))

        self.wait(lambda: all(self.is_settled(plugin_id) for plugin_id in ids), answer)

    def is_settled(self, plugin_id: str) -> bool:
        """Whether a plugin stays where it is until something happens, or is not there."""
        plugin = self._registry.plugins.get(plugin_id)
        return plugin is None or (plugin.is_settled and not plugin.leaving)

    def _loaded(self, plugin_id: str) -> Row:
        plugin = self._registry.plugins.get(plugin_id)
        if plugin is None:
            return _refused({"path": "", "reason": "it was unloaded meanwhile", "traceback": ""})
        return {
            "path": plugin.manifest.path,
            "id": plugin_id,
            "state": plugin.state.value,
            "reason": plugin.lifecycle.reason,
            "traceback": plugin.lifecycle.traceback,
        }

    # --- the others -------------------------------------------------------------------------------

    def _unload(self, asker: Asker, order: UnloadPlugin) -> None:
        plugin_id = order.plugin_id

        def wait() -> None:
            gone = Answer(order.request, None)
            self.wait(lambda: not self._is_leaving(plugin_id), lambda: asker.reply(gone))

        def stop() -> None:
            if self._is_leaving(plugin_id):
                self._supervisor.stop(plugin_id)
            wait()

        if order.request in self._remembered:
            wait()
            return
        check_request(self._registry, plugin_id)
        needed = [plugin.id for plugin in self._registry.dependents(plugin_id)]
        if needed:
            first = ", ".join(needed)
            raise UsageError(f"plugin {plugin_id} is needed by {first}; unload {first} first")
        self._supervisor.let_go(plugin_id)
        self._remembered[order.request] = done = {"id": plugin_id}
        self._write([store.let_go(plugin_id), *store.begin(order.request, done)], stop)

    def _is_leaving(self, plugin_id: str) -> bool:
        """Whether it is still to go; one of its name that was loaded since is another."""
        plugin = self._registry.plugins.get(plugin_id)
        return plugin is not None and plugin.leaving

    def _restart(self, asker: Asker, order: RestartPlugin) -> None:
        plugin_id, known = order.plugin_id, self._remembered.get(order.request)
        plugin = check_request(self._registry, plugin_id)
        done = known or {
            "restarted": plugin.incarnation,
            "id": plugin_id,
            "counted": plugin.lifecycle.counted,
        }
        self._remembered[order.request] = done

        changed = read_again(plugin.manifest)
        forgiven = store.keep_memory(plugin_id, plugin.lifecycle.forgiven)

        def restart() -> None:
            if known is None and plugin_id in self._registry.plugins:
                self._supervisor.restart(plugin_id, changed)
            self.wait(
                lambda: self.is_settled(plugin_id),
                lambda: asker.reply(Answer(order.request, self._loaded(plugin_id))),
            )

        # Kept with the order: where there is no worker, nothing else tells the next daemon of it.
        written = [store.want(changed), *store.begin(order.request, done)]
        self._write([*written, forgiven] if known is None else written, restart)

    def _initialize(self, asker: Asker, order: InitializeAll) -> None:
        known = order.request in self._remembered
        self._remembered[order.request] = done = {"initialize": True}

        def initialized() -> None:
            if not known:
                self._publish(SystemInit())
            asker.reply(Answer(order.request, None))

        def wait() -> None:
            self.wait(self._registry.settled, initialized)

        self._write(store.begin(order.request, done), wait)

    def shut_down(self) -> None:
        """Publish SystemShutdown, stop every plugin in reverse order of dependency, leave."""
        if self.is_leaving:
            return
        self.is_leaving = True
        self._publish(SystemShutdown())
        self._supervisor.stop_in_time()
        self._write([store.let_go(plugin_id) for plugin_id in self._registry.plugins], None)
        self._stop_next()

    def _stop_next(self) -> None:
        left = -1
        while left != len(self._registry.plugins):  # what has no worker is gone at once
            left = len(self._registry.plugins)
            self._supervisor.stop_unneeded()
        if left:
            self.wait(lambda: len(self._registry.plugins) < left, self._stop_next)
        else:
            self._leave()


def _refused(fields: dict[str, Any]) -> Row:
    return {"id": None, "state": "refused", **fields}
