"""Make calls of every form, in threads, until told to stop; in a plugin or in an application.

Copied into the caller's folder, so it imports nothing of the tests.
"""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tests.chaos.calls.records import Log

NAP_S = 0.001
"""A call takes up to so long, asleep: deaths are to fall into calls, not beside them."""

SHORT_S = 0.02
"""The deadline of an impatient call; it takes twice as long."""

IN_A_ROW = 4
"""Futures of one thread that are under way at once."""


class Misanswered(Exception):
    """What came back is not the answer to this call."""


class Access(Protocol):
    """What plugins' contexts and hosts have in common."""

    def wait_service(self, name: str, timeout: float) -> Any:  # noqa: ANN401 - a stub
        """Give a stub as soon as somebody offers the service."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How calls are made.

    Attributes:
        services: Whom to call; a chain goes from an earlier to later ones, so never in a circle.
        threads: That call at the same time.
        pause_s: Between one call and the next, on average.
        timeout_s: The deadline of a call.
        impatient: The share of calls whose deadline is shorter than what they take.
        seed: Of what is called, and when.
    """

    services: list[str]
    threads: int
    pause_s: float
    timeout_s: float
    impatient: float
    seed: int

    @staticmethod
    def beside(module: str) -> "Plan":
        """Read the one that lies beside a module."""
        return Plan(**json.loads((Path(module).parent / "plan.json").read_text()))


class Load:
    """One process's threads that call."""

    def __init__(self, access: Access, log: "Log", plan: Plan) -> None:
        self._access = access
        self._log = log
        self._plan = plan
        self._number = count(1)
        self._stopping = threading.Event()
        self._rounds = [0] * plan.threads
        self._threads = [
            threading.Thread(target=self._run, args=(me,), daemon=True)
            for me in range(plan.threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Make no more calls, and wait for the outcomes of those that were made."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def made(self) -> int:
        """Say how many calls the laziest thread has made since it has called everybody once."""
        return min(self._rounds)

    def _run(self, me: int) -> None:
        rng = random.Random(f"{self._plan.seed} {self._log.life} {me}")
        caller = _Caller(self._access, self._log, self._plan, rng, self._number)
        for attempt in caller.attempts():
            if self._stopping.is_set():
                return
            with suppress(Exception):  # its outcome is in the log
                attempt()
            self._rounds[me] += 1
            time.sleep(rng.uniform(0.0, 2.0 * self._plan.pause_s))


class _Caller:
    """One thread's calls."""

    def __init__(
        self, access: Access, log: "Log", plan: Plan, rng: random.Random, number: "count[int]"
    ) -> None:
        self._access = access
        self._log = log
        self._plan = plan
        self._random = rng
        self._number = number
        self._stubs: dict[str, Any] = {}
        self._forms = [self._plain, self._again, self._submitted, self._stream, self._chain]

    def attempts(self) -> Iterator[Any]:
        """Give things to do: first each service once, and along the whole chain; then anything."""
        services = self._plan.services
        yield lambda: self._chain(services[0], services[1:])
        for service in services:
            yield lambda service=service: self._plain(service)
        while True:
            form, service = self._random.choice(self._forms), self._random.choice(services)
            yield lambda form=form, service=service: form(service)

    def _plain(self, service: str) -> None:
        timeout, nap_s = self._plan.timeout_s, self._random.uniform(0.0, NAP_S)
        if self._random.random() < self._plan.impatient:
            timeout, nap_s = SHORT_S, 2 * SHORT_S
        with self._sent("plain", timeout) as call:
            _check(self._stub(service).do(call, nap_s, timeout=timeout), call)

    def _again(self, service: str) -> None:
        with self._sent("again") as call:
            _check(self._stub(service).again(call, self._nap(), timeout=self._plan.timeout_s), call)

    def _submitted(self, service: str, left: int = IN_A_ROW) -> None:
        """Have several under way at once, each waited for after those that were made later."""
        if left:
            with self._sent("submitted") as call:
                do = self._stub(service).do
                future = do.submit(call, self._nap(), timeout=self._plan.timeout_s)
                with suppress(Exception):  # the others' outcomes are not this one's
                    self._submitted(service, left - 1)
                _check(future.result(), call)

    def _stream(self, service: str) -> None:
        size = self._random.randrange(1, 60)
        with self._sent("stream") as call:
            items = list(self._stub(service).items(call, size, timeout=self._plan.timeout_s))
            _check(items, [[call, number] for number in range(size)])

    def _chain(self, service: str, rest: list[str] | None = None) -> None:
        services = self._plan.services
        if rest is None:
            later = services[services.index(service) + 1 :]
            rest = [it for it in later if self._random.random() < 0.5][:2]
        with self._sent("chain") as call:
            stub = self._stub(service)
            _check(stub.chain(call, rest, self._nap(), timeout=self._plan.timeout_s), call)

    def _nap(self) -> float:
        return self._random.uniform(0.0, NAP_S)

    def _stub(self, service: str) -> Any:  # noqa: ANN401 - whatever is offered
        if service not in self._stubs:
            self._stubs[service] = self._access.wait_service(service, self._plan.timeout_s)
        return self._stubs[service]

    @contextmanager
    def _sent(self, form: str, timeout: float | None = None) -> Iterator[str]:
        call = f"{self._log.life}.{next(self._number)}"
        with self._log.sent(call, form, timeout or self._plan.timeout_s):
            yield call


def _check(answer: object, right: object) -> None:
    if answer != right:
        raise Misanswered(f"{answer!r} is not {right!r}")
