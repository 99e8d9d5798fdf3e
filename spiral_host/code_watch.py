"""Notice that the files of what is quarantined have changed, so that it may be tried again.

A folder may be huge, or lie on a server that does not answer: it is looked at in the background,
one look at a time, and the rest of the daemon waits for none of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from protocol.reactor import Reactor, Timer
from spiral_host.discovery import read_again
from spiral_host.fingerprint import fingerprint
from spiral_host.lifecycle import State
from spiral_host.manifest import Manifest
from spiral_host.registry import Plugin, Registry

CODE_S: Final = 1.0
"""How often the files of what is quarantined are looked at, seconds."""

REST: Final = 50.0
"""And how many times longer than a look the rest behind it is: 2 % of a core at most."""

T = TypeVar("T")


class Background(Protocol):
    """Somebody who can wait for a disk."""

    def __call__(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Do this elsewhere, and have the loop called with what came of it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One plugin, as it stood when the look began."""

    plugin_id: str
    manifest: Manifest
    code: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What lies there: its fingerprint, and its manifest if that is another than was asked for."""

    asked: _Asked
    code: str
    manifest: Manifest


class CodeWatch:
    """Looks at code as long as there is a plugin in quarantine; lives as long as the supervisor.

    Args:
        noted: Called when it is known what code a plugin was quarantined with.
        changed: Called with the manifest as it is now when that code is there no more.
    """

    def __init__(
        self,
        registry: Registry,
        reactor: Reactor,
        background: Background,
        noted: Callable[[Plugin], None],
        changed: Callable[[Plugin, Manifest], None],
    ) -> None:
        self._registry = registry
        self._reactor = reactor
        self._background = background
        self._noted = noted
        self._changed = changed
        self._timer: Timer | None = None
        self._is_looking = False

    def look(self) -> None:
        """Look now, and again every `CODE_S`, until nothing is in quarantine."""
        if self._is_looking:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        asked = [
            _Asked(plugin.id, plugin.manifest, plugin.lifecycle.code)
            for plugin in self._registry.plugins.values()
            if plugin.state is State.QUARANTINED and not plugin.leaving
        ]
        if asked:
            self._is_looking = True
            self._background(lambda: _look(asked), self._looked)

    def _looked(self, found: tuple[list[_Seen], float]) -> None:
        seen, took_s = found
        self._is_looking = False
        self._timer = self._reactor.call_later(max(CODE_S, REST * took_s), self.look)
        for one in seen:
            self._take_in(one)

    def _take_in(self, seen: _Seen) -> None:
        plugin = self._registry.plugins.get(seen.asked.plugin_id)
        if plugin is None or plugin.state is not State.QUARANTINED or plugin.leaving:
            return
        if plugin.lifecycle.code != seen.asked.code:
            return  # it was tried meanwhile
        if not seen.asked.code:
            plugin.lifecycle.code = seen.code
            self._noted(plugin)
        elif seen.code != seen.asked.code:
            self._changed(plugin, seen.manifest)


def _look(asked: list[_Asked]) -> tuple[list[_Seen], float]:
    """Look at them all; runs in the background."""
    began = time.monotonic()
    seen = [_look_at(one) for one in asked]
    return seen, time.monotonic() - began


def _look_at(asked: _Asked) -> _Seen:
    code = fingerprint(asked.manifest.source)
    is_changed = bool(asked.code) and code != asked.code
    return _Seen(asked, code, read_again(asked.manifest) if is_changed else asked.manifest)
