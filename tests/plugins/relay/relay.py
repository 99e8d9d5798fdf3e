"""A plugin through which tests call another plugin, from worker to worker."""

import threading
import time
from collections.abc import Callable
from typing import Any

from plugin_worker import Plugin, PluginContext, SpiralHostError


class Service:
    """Makes calls; keeps the stubs it once got, whatever happens to those they lead to."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx
        self._stubs: dict[str, Any] = {}

    def call(self, service: str, method: str, *arguments: object) -> dict[str, Any]:
        """Make one call; give its value, or its error's kind, fields and how long it took."""
        started = time.monotonic()
        try:
            return {"value": self._method(service, method)(*arguments)}
        except SpiralHostError as error:
            after_s = time.monotonic() - started
            return {"error": type(error).__name__, "fields": error.fields(), "after_s": after_s}

    def resolve(self, service: str, timeout: float) -> bool:
        """Wait for a service and keep its stub."""
        self._stubs[service] = self._ctx.wait_service(service, timeout)
        return True

    def large(self, size: int) -> str:
        """Give a text as long as asked for; texts lie in frames."""
        return "x" * size

    def call_in_threads(self, service: str, threads: int, calls: int) -> list[int]:
        """Have threads call `echo` at the same time; give how many answers of each were right."""
        right = [0] * threads

        def work(me: int) -> None:
            for number in range(calls):
                value = [me, number]
                right[me] += self._method(service, "echo")(value) == value

        workers = [threading.Thread(target=work, args=(me,)) for me in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return right

    def call_times(self, service: str, times: int) -> int:
        """Call `add` so often; give how many answers were right."""
        add = self._method(service, "add")
        return sum(add(number, 1) == number + 1 for number in range(times))

    def _method(self, service: str, method: str) -> Callable[..., Any]:
        if service not in self._stubs:
            self._stubs[service] = self._ctx.wait_service(service, 10.0)
        found: Callable[..., Any] = getattr(self._stubs[service], method)
        return found


class Relay(Plugin):
    """Offers the relay."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service("relay", Service(ctx))
