"""What an application author touches: start or find a host, load plugins, call, publish, listen."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakSet

from protocol.access import Access
from protocol.errors import LoadFailed, NoDaemon, UsageError
from protocol.eventbus import EventBus
from protocol.events import PluginEvent
from protocol.messages import (
    GetStatus,
    GrantPermissions,
    InitializeAll,
    ListPermissions,
    ListPlugins,
    ListServices,
    LoadPlugins,
    RestartPlugin,
    RevokePermissions,
    ShutDown,
    UnloadPlugin,
)
from protocol.names import parse_plugin_id
from protocol.publishing import WAIT_S, PublishReport
from spiral_host.client import Connection
from spiral_host.config import DaemonConfig, default_run_dir
from spiral_host.crash_files import latest
from spiral_host.crashes import CrashReport
from spiral_host.launch import DaemonProcess, start_daemon
from spiral_host.listener import MAXLEN, Listener
from spiral_host.loaders import Source, places_of
from spiral_host.records import (
    LoadResult,
    PluginInfo,
    PluginPermissions,
    ServiceInfo,
    load_result,
    plugin_info,
    plugin_permissions,
)

START_S: Final = 30.0
STOP_S: Final = 35.0
"""The daemon's own budgets for draining, SIGTERM and SIGKILL, and some more."""


class Host(Access):
    """A private daemon that ends with this application; or, by `connect`, one that runs already.

    Args:
        plugins: What to load at once: paths, folders, loaders.
        run_dir: Where its sockets and logs lie; a temporary directory when None.
        data_dir: Holds one folder for each plugin's data; inside `run_dir` when None.
        config_dir: Holds `spiral.toml` and the grants; the user's own when None.
        sandbox: `standard`, `strict` or `off`; what `spiral.toml` says when None.
        best_effort: Whether to start where a layer is missing; what `spiral.toml` says when None.

    Raises:
        UsageError: An argument cannot be meant.
        LoadFailed: The daemon could not start; its own reason is in the text.
    """

    _is_closed = False

    def __init__(
        self,
        plugins: Source | Iterable[Source] = (),
        *,
        run_dir: str | Path | None = None,
        data_dir: str | Path | None = None,
        config_dir: str | Path | None = None,
        sandbox: str | None = None,
        best_effort: bool | None = None,
    ) -> None:
        self._temporary = "" if run_dir is not None else tempfile.mkdtemp(prefix="spiral-host-")
        self._daemon: DaemonProcess | None = None
        self._owner_fd = -1
        self._listeners: WeakSet[Listener] = WeakSet()
        config = DaemonConfig(
            run_dir=Path(run_dir or self._temporary).resolve(),
            data_dir=None if data_dir is None else Path(data_dir).resolve(),
            config_dir=None if config_dir is None else Path(config_dir).resolve(),
            sandbox=sandbox or "",
            best_effort=best_effort,
        )
        try:
            self._connection = self._start(config)
            for result in self.load(plugins):
                if not result.ok:
                    self._warn(result)
        except BaseException:
            self._end(force=True)
            raise

    def _start(self, config: DaemonConfig) -> Connection:
        read_fd, self._owner_fd = os.pipe2(os.O_CLOEXEC)
        try:
            self._daemon = start_daemon(replace(config, owner_fd=read_fd))
        finally:
            os.close(read_fd)
        return _connect_to(self._daemon, config.run_dir)

    @classmethod
    def connect(cls, run_dir: str | Path | None = None, timeout: float = 5.0) -> Self:
        """Connect to a daemon that runs already, by default the user's own.

        Args:
            timeout: Seconds to wait for it to answer; one that is not there is known at once.

        Raises:
            NoDaemon: Nobody serves that run directory.
        """
        host = cls.__new__(cls)
        host._temporary, host._daemon, host._owner_fd = "", None, -1  # noqa: SLF001 - its own
        host._listeners = WeakSet()  # noqa: SLF001
        path = Path(run_dir) if run_dir is not None else default_run_dir()
        host._connection = Connection(path.resolve(), _own_name(), timeout)  # noqa: SLF001
        return host

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        if self._daemon is not None:
            self.shutdown()
        else:
            self.close()

    @staticmethod
    def _warn(result: LoadResult) -> None:
        what = result.id or result.path
        warnings.warn(f"plugin {what} is {result.state}: {result.reason}", stacklevel=3)

    # --- plugins ----------------------------------------------------------------------------------

    def load(self, source: Source | Iterable[Source]) -> list[LoadResult]:
        """Load plugins; one that fails stops no other.

        Returns:
            What became of each, once each is ready or has failed; dependencies come first.
        """
        places = places_of(source)
        if not places:
            return []
        rows = self._connection.ask(lambda name: LoadPlugins(name, places))
        return [load_result(row) for row in rows]

    def unload(self, plugin_id: str) -> None:
        """Drain a plugin, run its `on_unload`, and forget it.

        Raises:
            UsageError: No such plugin is loaded, or another one needs it.
        """
        parse_plugin_id(plugin_id)
        self._connection.ask(lambda name: UnloadPlugin(name, plugin_id))

    def restart(self, plugin_id: str) -> LoadResult:
        """Stop a plugin and start it again; quarantine ends with it.

        Raises:
            UsageError: No such plugin is loaded.
        """
        parse_plugin_id(plugin_id)
        return load_result(self._connection.ask(lambda name: RestartPlugin(name, plugin_id)))

    def grant(
        self,
        plugin_id: str,
        permissions: Mapping[str, object] | None = None,
        *,
        digest: str = "",
    ) -> PluginPermissions:
        """Grant a plugin what its manifest asks for; if nothing else hinders it, it starts.

        Args:
            permissions: The part that is granted, in the manifest's words; None is all of it. With
                less the plugin starts all the same, until its manifest is another one.
            digest: That of the `permissions` that were shown to whoever decides: only they are
                granted. Without it, what the plugin asks for at that moment.

        Raises:
            UsageError: No such plugin is loaded, it does not ask for that, or it has changed since
                it was shown.
        """
        parse_plugin_id(plugin_id)
        rows = self._connection.ask(
            lambda name: GrantPermissions(name, plugin_id, permissions, digest)
        )
        if not rows:
            raise UsageError(f"plugin {plugin_id} was unloaded meanwhile")
        return plugin_permissions(rows[0])

    def revoke(self, plugin_id: str) -> PluginPermissions | None:
        """Take away what a plugin was granted; one that asks for more than it has now stops.

        Returns:
            What it may do now; None when no such plugin is loaded.

        Raises:
            UsageError: It was granted nothing.
        """
        parse_plugin_id(plugin_id)
        rows = self._connection.ask(lambda name: RevokePermissions(name, plugin_id))
        return plugin_permissions(rows[0]) if rows else None

    def permissions(self, plugin_id: str) -> PluginPermissions:
        """Say what a plugin asks for, was granted and may do, and what was refused to it last.

        Raises:
            UsageError: No such plugin is loaded.
        """
        parse_plugin_id(plugin_id)
        (row,) = self._connection.ask(lambda name: ListPermissions(name, plugin_id))
        return plugin_permissions(row)

    def list_permissions(self) -> list[PluginPermissions]:
        """Say that of every plugin, in the order they were loaded."""
        return [plugin_permissions(row) for row in self._connection.ask(ListPermissions)]

    def initialize_all(self) -> list[PluginInfo]:
        """Wait until every plugin is ready or has failed, then publish SystemInit."""
        self._connection.ask(InitializeAll)
        return self.list_plugins()

    def list_plugins(self) -> list[PluginInfo]:
        """Give every plugin, in the order they were loaded."""
        return self._plugins(fresh=False)

    def health(self) -> list[PluginInfo]:
        """Give every plugin, with figures measured now."""
        return self._plugins(fresh=True)

    def _plugins(self, *, fresh: bool) -> list[PluginInfo]:
        rows = self._connection.ask(lambda name: ListPlugins(name, fresh))
        return [plugin_info(row) for row in rows]

    def get(self, plugin_id: str) -> PluginInfo:
        """Give one plugin, with figures measured now.

        Raises:
            UsageError: No such plugin is loaded.
        """
        for plugin in self.health():
            if plugin.id == plugin_id:
                return plugin
        raise UsageError(f"no plugin {ascii(plugin_id)[:80]} is loaded")

    def logs(self, plugin_id: str, lines: int = 100) -> list[str]:
        """Give the last lines of what a plugin printed and logged; also after it has gone.

        Raises:
            UsageError: The id is none, or no such plugin has run here.
        """
        path = self._connection.run_dir / "logs" / f"{parse_plugin_id(plugin_id)}.log"
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - (1 << 20)))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            raise UsageError(f"plugin {plugin_id} has no log; it has not run here") from None
        return text.splitlines()[-lines:]

    def report(self, plugin_id: str) -> CrashReport | None:
        """Give the report of the last death of a plugin that nobody had asked for.

        It is read from disk, where it lies a moment after the death and after the plugin has gone.

        Returns:
            None when there is none, or none yet.

        Raises:
            UsageError: The id is none.
        """
        return latest(self._connection.run_dir, plugin_id)

    def status(self) -> dict[str, Any]:
        """Say how the daemon itself is."""
        row: dict[str, Any] = self._connection.ask(GetStatus)
        return row

    # --- services, beside those of `Access` -------------------------------------------------------

    @property
    def _provider(self) -> Connection:
        return self._connection

    def list_services(self) -> list[ServiceInfo]:
        """Give every service that can be called, by name."""
        return [
            ServiceInfo(name=name, plugin_id=owner, methods=tuple(methods))
            for name, owner, methods in self._connection.ask(ListServices)
        ]

    # --- events -----------------------------------------------------------------------------------

    @property
    def event_bus(self) -> EventBus:
        """The bus; what `Host` has of it is here for short."""
        return self._connection.event_bus

    def publish(self, event: PluginEvent, *, wait: bool = False, timeout: float = WAIT_S) -> None:
        """Publish an event; see `EventBus.publish`."""
        self.event_bus.publish(event, wait=wait, timeout=timeout)

    def publish_report(self, event: PluginEvent, timeout: float = WAIT_S) -> PublishReport:
        """Publish an event and say what became of it; see `EventBus.publish_report`."""
        return self.event_bus.publish_report(event, timeout)

    def make_sticky(self, event_type: str) -> None:
        """Let the last event of a type be kept; see `EventBus.make_sticky`."""
        self.event_bus.make_sticky(event_type)

    def listen(self, *event_types: str, maxlen: int = MAXLEN) -> Listener:
        """Give a queue of the events published from now on, for code that fetches them itself.

        Args:
            event_types: As `subscribe` takes them; none are every type.
            maxlen: How many may wait; then the oldest are forgotten, and counted as `dropped`.

        Raises:
            UsageError: One is neither an event type nor a pattern, or `maxlen` is not positive.
        """
        listener = Listener(self, maxlen)
        self._listeners.add(listener)
        listener.hear(event_types)
        return listener

    # --- the end ----------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether this host was closed or shut down; then it can do nothing more."""
        return self._is_closed

    def shutdown(self) -> None:
        """Publish SystemShutdown, unload every plugin in reverse order, end the daemon."""
        with contextlib.suppress(NoDaemon):
            self._connection.ask(ShutDown)
        self._end(force=False)

    def close(self) -> None:
        """Disconnect; a daemon that this application started for itself ends too."""
        self._end(force=False)

    def _end(self, *, force: bool) -> None:
        self._is_closed = True
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()
        for listener in tuple(self._listeners):
            listener.close()
        if self._owner_fd >= 0:
            os.close(self._owner_fd)
            self._owner_fd = -1
        if self._daemon is not None:
            _wait_for(self._daemon, force=force)
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _own_name() -> str:
    program = Path(sys.argv[0])
    return (program.parent.name if program.stem == "__main__" else program.stem) or "python"


def _connect_to(daemon: DaemonProcess, run_dir: Path) -> Connection:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return Connection(run_dir, _own_name(), deadline - time.monotonic())
        except NoDaemon as error:
            if daemon.poll() is not None:
                why = daemon.last_words().removeprefix("spiral-host: ")
                raise LoadFailed("spiral-host", why or "it ended at once") from None
            if time.monotonic() > deadline:
                raise LoadFailed("spiral-host", str(error)) from None
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(0.005)


def _wait_for(daemon: DaemonProcess, *, force: bool) -> None:
    try:
        daemon.wait(5.0 if force else STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
