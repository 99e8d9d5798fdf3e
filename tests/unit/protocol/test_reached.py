import errno
import os
from collections.abc import Callable, Iterator

import pytest

from protocol.limits import DEFAULTS, Limits
from protocol.reached import limits_reached, set_limits
from protocol.remote import report

WHERE = "([limits] of the manifest, capped by the operator)"


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    set_limits(Limits(memory=300 << 20, files=99, file_size=1 << 20, threads=7, processes=3))
    yield
    set_limits(DEFAULTS)


def raised(attempt: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whichever it is
        attempt()
    return caught.value


class TestLimitsReached:
    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (MemoryError(), "memory = 300 MiB"),
            (OSError(errno.ENOMEM, "no"), "memory = 300 MiB"),
            (OSError(errno.EMFILE, "no"), "files = 99"),
            (OSError(errno.EFBIG, "no"), "file_size = 1 MiB"),
            (RuntimeError("can't start new thread"), "threads = 7, memory = 300 MiB"),
        ],
    )
    def test_what_the_kernel_refuses_has_the_limits_name(
        self, error: Exception, words: str
    ) -> None:
        """
        With its value, and who decides about it.
        """
        assert limits_reached(error) == f"limit {words} {WHERE}"

    @pytest.mark.parametrize(
        "error",
        [ValueError("x"), RuntimeError("x"), OSError("x"), OSError(errno.ENOENT, "x"), OSError()],
    )
    def test_other_errors_are_left_alone(self, error: Exception) -> None:
        """
        Those among them that mean something else with the same class.
        """
        assert limits_reached(error) == ""

    def test_a_fork_that_is_refused_is_told_from_a_socket_that_has_nothing(self) -> None:
        """
        Both are EAGAIN.
        """

        def fork() -> None:
            if os.getpid():
                raise BlockingIOError(errno.EAGAIN, "no")
            os.fork()

        def read() -> None:
            raise BlockingIOError(errno.EAGAIN, "no")

        assert limits_reached(raised(fork)) == f"limit processes = 3, threads = 7 {WHERE}"
        assert limits_reached(raised(read)) == ""
        assert limits_reached(BlockingIOError(errno.EAGAIN, "no")) == ""

    def test_the_caller_reads_it(self) -> None:
        """
        Behind the message, or in place of one where there is none.
        """
        assert report("a.b", MemoryError()).text == f"limit memory = 300 MiB {WHERE}"
        text = report("a.b", OSError(errno.EMFILE, "Too many")).text
        assert text == f"[Errno 24] Too many; limit files = 99 {WHERE}"
        assert report("a.b", ValueError("x")).text == "x"
