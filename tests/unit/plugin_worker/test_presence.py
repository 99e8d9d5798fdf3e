import fcntl
import gc
import os
import subprocess
import sys
import threading

import pytest

from plugin_worker.presence import Presence, open_descriptors
from plugin_worker.sandbox import kernel
from protocol.messages import Ping, Pong
from tests.zygote_pair import ROOT


def is_open(fd: int) -> bool:
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        return False
    return not flags & os.O_PATH  # such a one only names a place, and cannot be asked about


class TestPresence:
    def test_the_last_ping_is_answered_once(self) -> None:
        """
        With its number; who was asked twice meanwhile answers for both.
        """
        said: list[Pong] = []
        one = Presence(said.append)
        one.answer()
        assert said == []

        one.asked(Ping(1))
        one.asked(Ping(2))
        one.answer()
        one.answer()
        assert [pong.number for pong in said] == [2]

    def test_no_other_thread_answers(self) -> None:
        """
        It may take a ping in, and the loop's own thread finds it there.
        """
        said: list[Pong] = []
        one = Presence(said.append)

        def elsewhere() -> None:
            one.asked(Ping(1))
            one.answer()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert said == []

        one.answer()
        assert [pong.number for pong in said] == [1]


class TestDescriptors:
    @pytest.mark.parametrize("told", [None, 0, "nothing"])
    def test_each_one_counts(self, monkeypatch: pytest.MonkeyPatch, told: object) -> None:
        """
        Also where /proc is out of reach or does not tell, and whatever may be done with them.
        """

        def tell(_: str) -> os.stat_result:
            if told:
                raise PermissionError
            return os.stat_result((0,) * 10)

        with monkeypatch.context() as patched:
            if told is not None:
                patched.setattr(os, "stat", tell)
            self.count()

    def count(self) -> None:
        gc.collect()  # or what earlier tests have left in circles is closed meanwhile
        before = open_descriptors()
        ends = [*os.pipe(), os.open("/dev/null", os.O_WRONLY)]
        os.close(ends.pop(0))  # the other end of a broken pipe is one all the same
        assert open_descriptors() == before + 2
        for fd in ends:
            os.close(fd)
        assert open_descriptors() == before

    def test_no_file_is_tried_for_it(self) -> None:
        """
        What a confined worker is refused is told of its plugin, which has tried nothing.
        """
        program = (
            "import sys; from plugin_worker.presence import open_descriptors; open_descriptors();"
            "sys.addaudithook(lambda event, _: print(event)); open_descriptors()"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert not {"open", "os.listdir", "os.scandir"} & set(done.stdout.split())

    def test_only_those_below_the_bound_are_seen(self) -> None:
        """
        Both ways agree as far as the one that is bounded looks.
        """
        assert kernel.count_open(0) == 0
        assert kernel.count_open(1024) == sum(map(is_open, range(1024)))
