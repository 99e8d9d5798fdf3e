"""Name the permission where the kernel is about to refuse, as an exception in the plugin.

Runs in the worker, on Python's audit events. Nothing rests on it: code that goes around Python, or
does what no event tells of, meets the kernel, which says no more than EPERM or EACCES. Nothing is
raised that the kernel would not have refused.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final

from plugin_worker.confine import readable, writable
from plugin_worker.file_refusals import FileRefusals
from plugin_worker.sandbox.confinement import Confinement
from protocol.errors import PermissionDenied

OnRefusal = Callable[[str, str], None]
"""Called with a permission's word and what was tried; in whatever thread tried it, before it is
raised. It raises nothing."""

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
_SHOWN: Final = 200
"""Characters of what was tried."""


class Refusals:
    """What the plugin of this process is refused; there is one, since hooks are for ever."""

    def __init__(self) -> None:
        self.on_refusal: OnRefusal = lambda _permission, _what: None
        self._plugin_id = ""
        self._ports: tuple[int, ...] = ()

    def watch(self, confinement: Confinement, plugin_id: str) -> None:
        """Watch this process from here on, by the layers that are in force."""
        self._plugin_id = plugin_id
        self._ports = confinement.ports
        handlers: dict[str, Callable[..., None]] = {}
        if "landlock" in confinement.layers:
            files = FileRefusals(readable(confinement), writable(confinement), self._deny)
            handlers.update(files.handlers())
        if "seccomp" in confinement.layers:
            handlers.update(self._network_handlers())
            handlers.update({} if confinement.subprocess else self._process_handlers())
        find = handlers.get

        def see(event: str, arguments: tuple[Any, ...]) -> None:
            handler = find(event)
            if handler is not None:
                handler(*arguments)

        if handlers:
            sys.addaudithook(see)

    def _deny(self, permission: str, what: str) -> None:
        shown = what if len(what) <= _SHOWN else f"{what[:_SHOWN]}..."
        self.on_refusal(permission, shown)
        raise PermissionDenied(permission, shown, self._plugin_id)

    # --- processes --------------------------------------------------------------------------------

    def _process_handlers(self) -> Mapping[str, Callable[..., None]]:
        return {
            "os.fork": lambda: self._deny("subprocess", "fork"),
            "os.forkpty": lambda: self._deny("subprocess", "fork"),
            "os.exec": lambda path, *_: self._start(path),
            "os.posix_spawn": lambda path, *_: self._start(path),
            "os.system": self._start,
            "pty.spawn": self._start,
            "subprocess.Popen": lambda program, arguments, *_: self._start(program or arguments),
        }

    def _start(self, program: object) -> None:
        first = program[0] if isinstance(program, list | tuple) and program else program
        text = os.fsdecode(first) if isinstance(first, str | bytes | os.PathLike) else repr(first)
        self._deny("subprocess", text)

    # --- sockets ----------------------------------------------------------------------------------

    def _network_handlers(self) -> Mapping[str, Callable[..., None]]:
        names = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
        lookups = {} if self._ports else dict.fromkeys(names, self._look_up)
        return {
            "socket.__new__": self._make_socket,
            "socket.connect": self._connect,
            "socket.bind": self._bind,
            **lookups,
        }

    def _make_socket(self, _: object, family: int, kind: int, protocol: int) -> None:
        if family == -1:
            return  # around a descriptor that is there
        is_tcp = kind & ~_FLAGS == socket.SOCK_STREAM and protocol in {0, socket.IPPROTO_TCP}
        could_be_granted = is_tcp and family in _INTERNET
        if self._ports and could_be_granted:
            return
        if _is_new(sys._getframe(2)):  # noqa: SLF001 - the event does not tell
            other = f"a socket of family {family}, type {kind} (only TCP can be granted)"
            self._deny("network", "a socket" if could_be_granted else other)

    def _connect(self, sock: socket.socket, address: object) -> None:
        if sock.family in _INTERNET and isinstance(address, tuple) and len(address) > 1:
            port = address[1]
            if isinstance(port, int) and port not in self._ports:
                self._deny("network", f"port {port}")

    def _bind(self, sock: socket.socket, _: object) -> None:
        if sock.family in _INTERNET:
            self._deny("network", "listening (only connecting can be granted)")

    def _look_up(self, host: object, *_: object) -> None:
        text = os.fsdecode(host) if isinstance(host, str | bytes) else ""
        if text and not _is_numeric(text):
            self._deny("network", f"the address of {text}")


REFUSALS: Final = Refusals()

_FLAGS: Final = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK


def _is_new(caller: FrameType) -> bool:
    """Say whether Python's own class makes a socket, rather than wraps one that is there.

    Whoever makes it otherwise gets the kernel's answer.
    """
    made_by = socket.socket.__init__.__code__
    return caller.f_code is made_by and caller.f_locals.get("fileno") is None


def _is_numeric(host: str) -> bool:
    for family in _INTERNET:
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False
