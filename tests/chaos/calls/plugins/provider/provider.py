"""Does nothing but say that it did, before it answers."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_worker import Plugin, PluginContext, service

if TYPE_CHECKING:
    from tests.chaos.calls.records import Log
else:
    from records import Log  # the test puts it beside this file

FIND_S = 15.0
NESTED_S = 15.0
"""A nested call has what is left of the outer one's time, which is less."""


FAULTS = Path(__file__).with_name("faults")
"""What it is to do wrong, where a test wants to see that it is found; each once, and never in what
may be done again: twice is no wrong there."""


class Service:
    """Every form of a call."""

    def __init__(self, ctx: PluginContext, log: Log) -> None:
        self._ctx = ctx
        self._log = log
        self._faults = FAULTS.read_text().split() if FAULTS.exists() else []
        self._stubs: dict[str, Any] = {}

    def do(self, call: str, nap_s: float) -> str:
        """Take some time."""
        fault = self._faults.pop() if self._faults else ""
        for _ in range({"lose": 0, "double": 2}.get(fault, 1)):
            self._log.ran(call)
        time.sleep(nap_s)
        return call if fault != "misanswer" else f"not {call}"

    @service(idempotent=True)
    def again(self, call: str, nap_s: float) -> str:
        """Take some time; it may be done again when its process dies."""
        self._log.ran(call)
        time.sleep(nap_s)
        return call

    def items(self, call: str, size: int) -> Iterator[tuple[str, int]]:
        """Give so many, numbered."""
        self._log.ran(call)
        for number in range(size):
            yield call, number

    def chain(self, call: str, rest: list[str], nap_s: float) -> str:
        """Have the next one do the same, in a call of its own."""
        answer = self.do(call, nap_s)
        if rest:
            nested = f"{call}/{len(rest)}"
            with self._log.sent(nested, "nested", NESTED_S):
                chain = self._stub(rest[0]).chain
                if chain(nested, rest[1:], nap_s, timeout=NESTED_S) != nested:
                    raise ValueError("this answers another call")
        return answer

    def _stub(self, name: str) -> Any:  # noqa: ANN401 - whatever is offered
        if name not in self._stubs:
            self._stubs[name] = self._ctx.wait_service(name, FIND_S)
        return self._stubs[name]


class Provider(Plugin):
    """Offers `work.ID`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer it."""
        self._log = Log(ctx.data_dir, ctx.plugin_id)
        ctx.register_service(f"work.{ctx.plugin_id}", Service(ctx, self._log))

    def on_unload(self, ctx: PluginContext) -> None:
        """Say that this was all."""
        self._log.left()
