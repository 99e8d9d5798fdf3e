"""Do what may wait for a disk that never answers, and give it up in time."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Final, TypeVar

PATIENCE_S: Final = 0.5
"""How long our loop waits, seconds: a disk that has to spin up first takes longer, a network that
is gone for ever. Clients think the daemon gone after 3."""

T = TypeVar("T")


class Patience:
    """At most one thing that is waited for; lives as long as the daemon."""

    def __init__(self) -> None:
        self._last = Event()
        self._last.set()

    def do(self, work: Callable[[], T]) -> T:
        """Do this in a thread of its own, and give what came of it; whatever it raises is raised.

        Raises:
            TimeoutError: It is not done, or what was given up before it is not.
        """
        if not self._last.is_set():
            raise TimeoutError
        self._last = done = Event()
        results: list[T] = []
        errors: list[Exception] = []

        def whole() -> None:
            try:
                results.append(work())
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                errors.append(error)
            finally:
                done.set()

        # A daemon: a disk that never answers must not keep our process.
        Thread(target=whole, name="patience", daemon=True).start()
        if not done.wait(PATIENCE_S):
            raise TimeoutError
        for error in errors:
            raise error
        return results[0]
