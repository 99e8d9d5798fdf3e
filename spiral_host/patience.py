"""Do what may wait for a disk that never answers, and give it up in time."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final, Generic, TypeVar

PATIENCE_S: Final = 0.1
"""How long our loop waits for one thing, seconds: everybody else waits meanwhile."""

BUDGET_S: Final = 0.5
"""How long it waits for all of them together, seconds: a tenth of its time is for waiting, and what
it did not wait is saved up to this. Clients think the daemon gone after 3."""

SHARE: Final = 0.1

LEAST_S: Final = 0.005
"""What everything gets, seconds, so that those who are quick are not kept by those who are not."""

FRESH_S: Final = 5.0
"""How long what came late is worth something, seconds: who waits for it asks more often."""

T = TypeVar("T")


@dataclass(slots=True)
class _Work(Generic[T]):
    """What is being done for somebody, in a thread of its own."""

    about: Hashable
    is_done: Event = field(default_factory=Event)
    results: list[T] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    done_at: float = 0.0

    def begin(self, work: Callable[[], T]) -> None:
        """Do it; whatever it raises is kept for whoever asks."""

        def whole() -> None:
            try:
                self.results.append(work())
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                self.errors.append(error)
            finally:
                self.done_at = time.monotonic()
                self.is_done.set()

        # A daemon: a disk that never answers must not keep our process.
        Thread(target=whole, name="patience", daemon=True).start()

    def answers(self, about: Hashable) -> bool:
        """Say whether what came of it may be given to somebody who asks for this now."""
        return self.about == about and time.monotonic() < self.done_at + FRESH_S

    def result(self) -> T:
        """Give what came of it."""
        for error in self.errors:
            raise error
        return self.results[0]


class Patience(Generic[T]):
    """For each who needs it, at most one thing that is waited for; lives as long as the daemon."""

    def __init__(self) -> None:
        self._works: dict[str, _Work[T]] = {}
        self._saved, self._since = BUDGET_S, time.monotonic()

    def do(self, whose: str, about: Hashable, work: Callable[[], T]) -> T:
        """Do this in a thread of its own, and give what came of it; whatever it raises is raised.

        What was not done in time goes on, and is given to whoever asks for the same next.

        Args:
            whose: Who waits in vain while this is not done, and nobody else.
            about: What tells it from other work for the same.

        Raises:
            TimeoutError: It is not done, or what was given up before it is not.
        """
        doing = self._works.get(whose)
        if doing is not None and not doing.is_done.is_set():
            raise TimeoutError  # it was waited for once
        if doing is None or not doing.answers(about):
            self._works[whose] = doing = _Work(about)
            doing.begin(work)
            if not self._wait(doing.is_done):
                raise TimeoutError
        del self._works[whose]
        return doing.result()

    def _wait(self, is_done: Event) -> bool:
        """Wait as long as there is something left to wait."""
        begun = time.monotonic()
        self._saved = min(BUDGET_S, self._saved + SHARE * (begun - self._since))
        found = is_done.wait(max(LEAST_S, min(PATIENCE_S, self._saved)))
        self._since = time.monotonic()
        self._saved = max(0.0, self._saved - (self._since - begun))
        return found
