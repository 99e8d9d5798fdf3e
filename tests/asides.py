"""What stands for the thread beside a node's loop: what it is given is done at once, or later."""

from collections.abc import Callable
from typing import TypeVar

from plugin_worker.node.aside import Aside

T = TypeVar("T")


class AtOnce(Aside):
    """No thread: what is to be done beside the loop is done."""

    def __init__(self) -> None:
        pass

    def do(
        self,
        job: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        try:
            result = job()
        except OSError as error:
            failed(error)
        else:
            then(result)


class Later(Aside):
    """What is to be done beside the loop is kept, for the test to do or not."""

    def __init__(self) -> None:
        self.kept: list[Callable[[], None]] = []

    def do(
        self,
        job: Callable[[], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        del failed
        self.kept.append(lambda: then(job()))
