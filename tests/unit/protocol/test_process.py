import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.process import (
    HEADROOM,
    check_room,
    descriptors,
    is_ending,
    is_stopped,
    start_time_of,
    usage_of,
)
from tests.limits import no_descriptor_left


class TestProcess:
    def test_a_stopped_process_is_told_from_one_that_runs(self) -> None:
        """
        It takes no signal, so nothing is waited for; one that is gone is not stopped.
        """
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            assert not is_stopped(child.pid)
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED)
            assert is_stopped(child.pid)
        finally:
            child.kill()
            child.communicate()
        assert not is_stopped(child.pid)

    def test_a_start_is_known_while_the_process_is(self) -> None:
        """
        It tells a process from another that has its number later.
        """
        assert start_time_of(os.getpid()) > 0
        assert start_time_of(2**22 + 1) == 0

    def test_a_name_that_is_no_text_hides_nothing(self) -> None:
        """
        A process may have the kernel call it anything, with brackets and states in it.
        """
        own = Path("/proc/self/comm")
        name = own.read_bytes().rstrip()
        before = start_time_of(os.getpid())
        own.write_bytes(b"\xff) T 1\n\xfe")
        try:
            assert start_time_of(os.getpid()) == before
            assert not is_stopped(os.getpid())
        finally:
            own.write_bytes(name)

    def test_one_that_ends_is_seen_as_soon_as_its_descriptors_are_closed(self) -> None:
        """
        However long it takes until the kernel says that it has ended; so is one that is gone.
        """
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        try:
            assert not is_ending(child.pid)
            child.kill()
            assert child.stdout.read() == b""  # which ends with the process only
            assert is_ending(child.pid)
        finally:
            child.communicate()
        assert is_ending(child.pid)


class TestWithoutDescriptors:
    def test_nothing_is_said_of_a_process(self) -> None:
        """
        Whoever looks goes on: that it cannot see is no reason to end.
        """
        own = os.getpid()
        assert usage_of(own) is not None
        with no_descriptor_left():
            assert usage_of(own) is None
            assert not is_stopped(own)
            assert not is_ending(own)
        assert usage_of(own) is not None

    @pytest.mark.parametrize("shown", [True, False])
    def test_that_there_is_none_can_be_said(
        self,
        monkeypatch: pytest.MonkeyPatch,
        shown: bool,  # noqa: FBT001
    ) -> None:
        """
        Also by a kernel that does not show how many there are: they cannot be listed then.
        """
        with monkeypatch.context() as kernel:
            if not shown:
                kernel.setattr(os, "stat", lambda _: os.stat_result((0,) * 10))
            used, limit = descriptors()
            assert limit - used > HEADROOM
            with no_descriptor_left():
                used, limit = descriptors()
                assert used >= limit
                with pytest.raises(OSError, match="descriptors is reached"):
                    check_room()
