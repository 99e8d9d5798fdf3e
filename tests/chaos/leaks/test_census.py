"""What is left behind is found, of whatever kind; what comes and goes is not complained of."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.chaos.leaks.census import Census, marked, slope, take
from tests.hosts import eventually


def census(folder: Path) -> Census:
    """Count what this process has."""
    return take({"me": os.getpid()}, folder)


@contextmanager
def memfd() -> Iterator[None]:
    """Have one more."""
    file = os.memfd_create("forgotten")
    yield
    os.close(file)


@contextmanager
def pidfd() -> Iterator[None]:
    """Have one more."""
    file = os.pidfd_open(os.getpid())
    yield
    os.close(file)


@contextmanager
def pair() -> Iterator[None]:
    """Have two sockets more."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield


@contextmanager
def thread() -> Iterator[None]:
    """Have one more."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join()


@contextmanager
def zombie() -> Iterator[None]:
    """Have a child that nobody has waited for."""
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    yield
    child.wait()


@contextmanager
def child() -> Iterator[None]:
    """Have one that lives."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE):
        yield


LEAKS: dict[str, tuple[Callable[[], AbstractContextManager[None]], dict[str, int]]] = {
    "memfd": (memfd, {"me: /memfd:forgotten (deleted)": 1}),
    "pidfd": (pidfd, {"me: anon_inode:[pidfd]": 1}),
    "sockets": (pair, {"me: socket:[#]": 2}),
    "thread": (thread, {"me: threads": 1}),
    "zombie": (zombie, {"me: zombies": 1}),
}


@pytest.mark.parametrize("what", LEAKS)
def test_a_leak_is_found(what: str, tmp_path: Path) -> None:
    """By its kind, and counted; when it is gone there is none."""
    leak, found = LEAKS[what]
    before = census(tmp_path)
    with leak():
        assert census(tmp_path).grown(before) == found
    assert eventually(lambda: census(tmp_path).grown(before) == {})


def test_a_child_that_lives_is_found(tmp_path: Path) -> None:
    """With the pipe that leads to it."""
    before = census(tmp_path)
    with child():
        assert census(tmp_path).grown(before) == {"me: children": 1, "me: pipe:[#]": 1}


def test_a_file_is_found_under_a_name_without_numbers(tmp_path: Path) -> None:
    """One for another is no leak: names of lives count up."""
    (tmp_path / "life-1").touch()
    before = census(tmp_path)
    (tmp_path / "life-1").rename(tmp_path / "life-22")
    assert census(tmp_path).grown(before) == {}
    (tmp_path / "life-23").touch()
    assert census(tmp_path).grown(before) == {"file life-#": 1}
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "report").touch()
    assert take({}, tmp_path, "kept").counts == {"file life-#": 2}


def test_a_slope_is_found_among_noise() -> None:
    """One peak is none."""
    assert slope([10.0, 12.0, 14.0, 1000.0, 18.0, 20.0]) == pytest.approx(2.0)
    assert slope([7.0, 7.0, 9000.0, 7.0, 7.0]) == 0.0


def test_an_orphan_is_found_by_its_mark() -> None:
    """In its environment as well as on its command line."""
    mark = f"mark-{os.getpid()}-of-an-orphan"
    assert marked(mark) == []
    sleep = [sys.executable, "-S", "-c", "input()"]
    with (
        subprocess.Popen(sleep, stdin=subprocess.PIPE, env={"A": mark}) as one,
        subprocess.Popen([*sleep, mark], stdin=subprocess.PIPE) as other,
    ):
        assert eventually(lambda: set(marked(mark)) == {one.pid, other.pid})
