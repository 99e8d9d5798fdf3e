"""Notice that what is quarantined has other files than it was started with, and may be tried again.

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
    began: float
    code: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What lies there: its fingerprint, and its manifest if that is another than was asked for."""

    asked: _Asked
    code: str
    manifest: Manifest


class CodeWatch:
    """Knows with what code plugins were started; lives as long as the supervisor.

    Args:
        noted: Called when that is known of a plugin.
        changed: Called, for one in quarantine, with its manifest as it is now when that code is
            there no more.
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
        self._next = 0.0
        """When what is in quarantine is looked at again."""
        self._is_looking = False

    def look(self) -> None:
        """Look at what has just been started, and again and again at what is in quarantine."""
        if self._is_looking:
            return  # what came meanwhile is looked at behind it
        plugins = self._registry.plugins.values()
        has_given_up = any(map(_is_given_up, plugins))
        is_due = has_given_up and time.monotonic() >= self._next
        asked = [
            _Asked(plugin.id, plugin.manifest, plugin.began, plugin.lifecycle.code)
            for plugin in plugins
            if _is_new(plugin) or (is_due and _is_given_up(plugin))
        ]
        if asked:
            self._is_looking = True
            self._background(
                lambda: _look(asked), lambda found: self._looked(*found, is_due=is_due)
            )
        elif self._timer is None and has_given_up:
            self._timer = self._reactor.call_at(self._next, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.look()

    def _looked(self, seen: list[_Seen], took_s: float, *, is_due: bool) -> None:
        self._is_looking = False
        if is_due:
            self._next = time.monotonic() + max(CODE_S, REST * took_s)
        for one in seen:
            self._take_in(one)
        self.look()

    def _take_in(self, seen: _Seen) -> None:
        plugin = self._registry.plugins.get(seen.asked.plugin_id)
        asked = seen.asked
        if plugin is None or (plugin.began, plugin.lifecycle.code) != (asked.began, asked.code):
            return  # it was tried meanwhile
        if _is_new(plugin):
            plugin.lifecycle.code = seen.code
            self._noted(plugin)
        elif _is_given_up(plugin) and seen.code != asked.code:
            self._changed(plugin, seen.manifest)


def _is_new(plugin: Plugin) -> bool:
    """Whether nobody has looked yet with what code it was started."""
    is_known = bool(plugin.lifecycle.code) or plugin.leaving
    return not is_known and (plugin.lifecycle.has_worker or _is_given_up(plugin))


def _is_given_up(plugin: Plugin) -> bool:
    return plugin.state is State.QUARANTINED and not plugin.leaving


def _look(asked: list[_Asked]) -> tuple[list[_Seen], float]:
    """Look at them all; runs in the background."""
    began = time.monotonic()
    seen = [_look_at(one) for one in asked]
    return seen, time.monotonic() - began


def _look_at(asked: _Asked) -> _Seen:
    # By the time of the look somebody may have saved what was not started.
    is_new = not asked.code and asked.began
    code = fingerprint(asked.manifest.source, time.monotonic() - asked.began if is_new else 0.0)
    is_changed = bool(asked.code) and code != asked.code
    return _Seen(asked, code, read_again(asked.manifest) if is_changed else asked.manifest)
