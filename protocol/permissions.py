"""What a plugin may do beyond its own code and data: what is asked, granted, and in force. No I/O.

    [permissions]
    read = ["/srv/images"]          # folders and files it may open, besides its own
    write = ["~/models"]            # the same, to write to as well
    network = [443]                 # TCP ports it may connect to, on whatever host
    subprocess = true               # start programs
    gpu = true                      # use the machine's accelerators
    services = ["tokenizer"]        # services it may call
    publish = ["Trainer.*"]         # types of events it may publish
    subscribe = ["EpochEnd"]        # types of events it may be told of
    config = ["model.*"]            # settings it may read and change

A manifest asks, the operator grants, and what runs is what both say: `meet(asked, granted)`. Names
are exact, a family such as `Trainer.*`, or `*`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

from protocol.errors import UsageError
from protocol.names import EVERYTHING, parse_pattern, shown
from protocol.patterns import matches

T = TypeVar("T", str, int)

MAX_ITEMS: Final = 256
"""Of one word; a list for people to read before they consent."""

MAX_PATH: Final = 4096
"""Characters: the kernel's PATH_MAX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """A set of permissions; each word's items are sorted and none includes another.

    Attributes:
        read: Paths, absolute and without `..`; a folder stands for all that is in it.
        write: Paths that may be read, too.
        network: TCP ports. The kernel tells ports apart, not hosts.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: tuple[int, ...] = ()
    subprocess: bool = False
    gpu: bool = False
    services: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    config: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != NOTHING

    def may_call(self, service: str) -> bool:
        """Say whether a service may be called."""
        return _any_matches(self.services, service)

    def may_publish(self, topic: str) -> bool:
        """Say whether events of a type may be published."""
        return _any_matches(self.publish, topic)

    def may_subscribe(self, pattern: str) -> bool:
        """Say whether all that a pattern stands for may be received."""
        return _any_matches(self.subscribe, pattern)

    def may_configure(self, key: str) -> bool:
        """Say whether a setting may be read and changed."""
        return _any_matches(self.config, key)

    def of_names(self) -> "Permissions":
        """Give those about names: daemon and node hold a plugin to them, not the kernel."""
        return Permissions(
            services=self.services,
            publish=self.publish,
            subscribe=self.subscribe,
            config=self.config,
        )

    def words(self) -> list[str]:
        """Name each permission for people: `network 443`, `gpu`."""
        flags = [word for word in WORDS if getattr(self, word) is True]
        lists = [(word, getattr(self, word)) for word in WORDS if word not in FLAGS]
        return flags + [f"{word} {item}" for word, items in lists for item in items]

    def to_wire(self) -> dict[str, Any]:
        """Give plain values, fit for JSON, TOML and msgpack; only what there is."""
        values = ((word, getattr(self, word)) for word in WORDS)
        return {word: value if word in FLAGS else list(value) for word, value in values if value}


WORDS: Final = tuple(field.name for field in fields(Permissions))
FLAGS: Final = tuple(field.name for field in fields(Permissions) if field.type is bool)

NOTHING: Final = Permissions()

EVERYONE: Final = Permissions(
    services=(EVERYTHING,), publish=(EVERYTHING,), subscribe=(EVERYTHING,), config=(EVERYTHING,)
)
"""What every plugin is granted where the operator says nothing: to work with the other plugins of
its host, as in one process. Nothing of the world outside."""


def parse_permissions(table: object) -> Permissions:
    """Read a table of permissions, of a manifest or of an operator.

    Raises:
        UsageError: It names the word that is unknown, or that cannot be meant, and why.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{shown(table)} is no table")
    if unknown := sorted(map(shown, set(table) - set(WORDS))):
        raise UsageError(f"unknown permission {unknown[0]}; known: {', '.join(WORDS)}")
    return Permissions(**{word: _PARSERS[word](word, value) for word, value in table.items()})


def missing(asked: Permissions, granted: Permissions) -> Permissions:
    """Give what is asked and not granted."""
    return _each(lambda word, item: not _includes(granted, word, item), asked)


def meet(asked: Permissions, granted: Permissions) -> Permissions:
    """Give what both say, item by item: a narrower grant narrows, a wider one changes nothing."""
    return join(
        _each(lambda word, item: _includes(granted, word, item), asked),
        _each(lambda word, item: _includes(asked, word, item), granted),
    )


def join(one: Permissions, other: Permissions) -> Permissions:
    """Give what either says."""
    values: dict[str, Any] = {}
    for word in WORDS:
        mine, theirs = getattr(one, word), getattr(other, word)
        both = mine or theirs if isinstance(mine, bool) else _least(word, (*mine, *theirs))
        values[word] = both
    return Permissions(**values)


# --- what includes what -------------------------------------------------------------------------


def _includes(granted: Permissions, word: str, item: object) -> bool:
    value = getattr(granted, word)
    if isinstance(value, bool):
        return value
    if word == "read":
        value = (*value, *granted.write)
    return any(_item_includes(word, mine, item) for mine in value)


def _item_includes(word: str, one: Any, other: Any) -> bool:  # noqa: ANN401 - a path, port or name
    if word == "network":
        return bool(one == other)
    if word in ("read", "write"):
        return is_within(other, one)
    return matches(one, other)  # a pattern is a name that its own families match


def is_within(path: str, folder: str) -> bool:
    """Say whether a path is a folder's or the folder itself; by their names alone."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _any_matches(patterns: tuple[str, ...], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def _each(keep: Callable[[str, Any], bool], permissions: Permissions) -> Permissions:
    values: dict[str, Any] = {}
    for word in WORDS:
        value = getattr(permissions, word)
        if isinstance(value, bool):
            values[word] = value and keep(word, value)
        else:
            values[word] = tuple(item for item in value if keep(word, item))
    return Permissions(**values)


def _least(word: str, items: Iterable[T]) -> tuple[T, ...]:
    """Sort items, and drop those that another includes."""
    unique = sorted(set(items))
    return tuple(
        item
        for item in unique
        if not any(other != item and _item_includes(word, other, item) for other in unique)
    )


# --- reading ------------------------------------------------------------------------------------


def _flag(word: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise UsageError(f"{word} = {shown(value)} is neither true nor false")


def _paths(word: str, value: object) -> tuple[str, ...]:
    return _least(word, [_path(word, item) for item in _list(word, value)])


def _path(word: str, item: object) -> str:
    fits = isinstance(item, str) and item.isprintable() and 0 < len(item) <= MAX_PATH
    if not isinstance(item, str) or not fits or not item.startswith(("/", "~/")):
        raise UsageError(f"{word}: {shown(item)} is no path; write one that begins with / or ~/")
    parts = item.split("/")
    if ".." in parts:
        raise UsageError(f"{word}: {shown(item)} has a '..'; write where it leads")
    plain = "/".join(part for part in parts if part not in ("", "."))
    return plain if item.startswith("~") else f"/{plain}"


def _ports(word: str, value: object) -> tuple[int, ...]:
    return _least(word, [_port(word, item) for item in _list(word, value)])


def _port(word: str, item: object) -> int:
    if type(item) is int and 0 < item < 1 << 16:
        return item
    raise UsageError(f"{word}: {shown(item)} is no TCP port; write a number from 1 to 65535")


def _names(word: str, value: object) -> tuple[str, ...]:
    try:
        return _least(word, [str(parse_pattern(item)) for item in _list(word, value)])
    except UsageError as error:
        raise UsageError(f"{word}: {error}") from None


def _list(word: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise UsageError(f"{word} = {shown(value)} is no list")
    if len(value) > MAX_ITEMS:
        raise UsageError(f"{word} has more than {MAX_ITEMS} items; name a folder or a family")
    return value


_PARSERS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "read": _paths,
    "write": _paths,
    "network": _ports,
    "subprocess": _flag,
    "gpu": _flag,
    "services": _names,
    "publish": _names,
    "subscribe": _names,
    "config": _names,
}
