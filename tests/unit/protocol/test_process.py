import os
import signal
import subprocess
import sys
from pathlib import Path

from protocol.process import is_stopped, start_time_of


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
