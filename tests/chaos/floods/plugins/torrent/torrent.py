"""A plugin that floods one thing until it is stopped, and says how far it came."""

import array
import mmap
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from plugin_worker import Plugin, PluginContext, PluginEvent
from protocol.messages import FROM_ENDPOINT, Pong
from protocol.packets import Kind, cut

MOST_MEMORY = 256 << 20
"""Bytes at once, far below the limit: the test must not need a machine of its own."""

MOST_THREADS = 200
CHUNK = 16 << 20
LINE = "flood " * 170 + "\n"


class Service:
    """Floods."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._count = 0
        self._is_enough = False
        self._thread = threading.Thread()

    def start(self, what: str) -> None:
        """Begin, in a thread of its own."""
        flood: Callable[[], Iterator[None]] = getattr(self, f"_{what}")

        def run() -> None:
            for _ in flood():
                self._count += 1
                if self._is_enough:
                    return

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Flood no more."""
        self._is_enough = True

    def count(self) -> int:
        """Say how often it has done it."""
        return self._count

    def is_over(self) -> bool:
        """Say whether it has come to its end."""
        return not self._thread.is_alive()

    def _log(self) -> Iterator[None]:
        while True:
            sys.stdout.write(LINE)
            yield

    def _event(self) -> Iterator[None]:
        while True:
            self._ctx.event_bus.publish(PluginEvent.custom("Flood.event", LINE))
            yield

    def _packet(self) -> Iterator[None]:
        (pong,) = cut(Kind.NODE, FROM_ENDPOINT.encode(Pong(0, 0)))
        umbilical = self._umbilical()
        room = select.poll()
        room.register(umbilical, select.POLLOUT)
        while True:
            if room.poll(100):
                with suppress(BlockingIOError):
                    umbilical.send(pong)
            yield

    def _descriptor(self) -> Iterator[None]:
        """Open until no more can be opened, and attach them to packets, which costs nobody any."""
        (pong,) = cut(Kind.NODE, FROM_ENDPOINT.encode(Pong(0, 0)))
        umbilical = self._umbilical()
        while True:
            mine = []
            try:
                while True:
                    mine.append(os.open(os.devnull, os.O_RDONLY))
                    if not len(mine) % 16:
                        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", mine[:16]))
                        with suppress(BlockingIOError):
                            umbilical.sendmsg([pong], [rights])
                        yield
            except OSError:
                for fd in mine:
                    os.close(fd)
            yield

    def _memory(self) -> Iterator[None]:
        """Take memory of every kind that there is, and touch it."""
        while True:
            mine: list[bytearray | mmap.mmap] = []
            for number in range(MOST_MEMORY // CHUNK):
                if number % 2:
                    shared = mmap.mmap(-1, CHUNK, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
                    shared.write(b"\1" * CHUNK)
                    mine.append(shared)
                else:
                    mine.append(bytearray(b"\1") * CHUNK)
                with suppress(OSError):
                    os.close(os.memfd_create("flood"))
                yield
            for one in mine:
                if isinstance(one, mmap.mmap):
                    one.close()

    def _process(self) -> Iterator[None]:
        """Fork, which is refused, and begin threads."""
        gate = threading.Event()
        while True:
            with suppress(OSError):
                if not os.fork():
                    os._exit(0)
            threads = []
            with suppress(RuntimeError):  # no more can be started
                for _ in range(MOST_THREADS):
                    threads.append(threading.Thread(target=gate.wait, daemon=True))
                    threads[-1].start()
                    yield
            gate.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            gate.clear()

    def _umbilical(self) -> socket.socket:
        fd: int = self._ctx._host._desk.fd  # type: ignore[attr-defined]
        end = socket.socket(fileno=os.dup(fd))
        end.setblocking(False)
        return end


class Torrent(Plugin):
    """Offers to flood."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service, by the plugin's own name."""
        ctx.register_service(ctx.plugin_id, Service(ctx))
