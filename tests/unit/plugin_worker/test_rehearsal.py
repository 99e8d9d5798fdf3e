import sys
import threading
from pathlib import Path

import pytest

from plugin_worker.rehearsal import rehearse
from protocol import failpoints


def test_it_leaves_nothing() -> None:
    """
    Neither a descriptor, which would be closed when it is another's, nor a thread, nor a path.
    """
    rehearse()  # what is made once and kept
    threads = set(threading.enumerate())  # some may be about to end
    before = _descriptors(), list(sys.path), len(sys.modules)
    rehearse()
    after = _descriptors(), list(sys.path), len(sys.modules)
    assert after == before
    assert set(threading.enumerate()) <= threads


def test_it_passes_no_failpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    They are the worker's that it becomes; a rehearsal that hits one ends early, or is one too many.
    """
    passed: list[str] = []
    monkeypatch.setattr(failpoints, "hit", passed.append)
    failpoints.ARMED.append("zygote")
    try:
        rehearse()
        assert (passed, failpoints.ARMED) == ([], ["zygote"])
    finally:
        failpoints.ARMED.clear()


def _descriptors() -> dict[int, str]:
    return {fd: link for fd in range(256) if (link := _link(fd))}


def _link(fd: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    except FileNotFoundError:
        return ""
