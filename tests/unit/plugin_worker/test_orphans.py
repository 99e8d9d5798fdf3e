import os
import subprocess
import time
from typing import Final

import pytest

from plugin_worker.node.orphans import (
    AT_ONCE,
    PAUSE_S,
    SHARE,
    Orphans,
    Pace,
    choose,
    own_children,
)
from plugin_worker.sandbox import kernel
from protocol.reactor import Reactor
from tests.limits import no_descriptor_left

START: Final = 1000.0
DEADLINE: Final = 20.0


class TestChoose:
    def test_workers_and_the_zygote_are_spared(self) -> None:
        """
        Whoever else is a child of the node has lost its parent.
        """
        assert choose({3, 1, 2, 9}, {1, 2}, ()) == [3, 9]

    def test_those_that_are_ending_are_not_ended_again(self) -> None:
        """
        They are gone soon, or hang in the kernel, where no signal reaches.
        """
        assert choose({3, 4}, (), {3}) == [4]

    def test_no_more_than_so_many_are_ended_at_a_time(self) -> None:
        """
        Each takes a descriptor of the node's until it is gone.
        """
        children = range(1, 1000)
        ending = choose(children, (), ())  # the first ones
        assert len(ending) == AT_ONCE

        assert choose(children, (), ending) == []
        assert choose(children, (), ending[1:]) == [1]


class TestPace:
    def test_the_first_look_may_be_at_once(self) -> None:
        """
        A death is looked after when it happens.
        """
        assert Pace().soon(START) == START

    def test_looking_takes_a_small_share_of_the_nodes_time(self) -> None:
        """
        Whoever forks without end makes the node look, not stop working.
        """
        pace = Pace()
        pace.looked(START, START + 0.01)

        assert pace.soon(START + 0.01) == pytest.approx(START + 0.01 + SHARE * 0.01)
        assert pace.soon(START + 60) == START + 60

    def test_even_a_quick_look_is_followed_by_a_pause(self) -> None:
        """
        The loop does other things in between.
        """
        pace = Pace()
        pace.looked(START, START)

        assert pace.soon(START) == START + PAUSE_S


class TestOrphans:
    @pytest.fixture(autouse=True)
    def no_subreaper(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Leave this process what it is, for later tests."""
        monkeypatch.setattr(kernel, "prctl", lambda *_: 0)

    def test_nobody_is_ended_while_a_worker_is_being_forked(self) -> None:
        """
        A child whose pid the node has not been told yet may be a worker. It looks again soon.
        """
        reactor = Reactor()
        known = own_children()
        ours: set[int] | None = None
        orphans = Orphans(reactor, lambda: ours)
        with subprocess.Popen(["sleep", "60"]) as child:
            orphans.look_soon()
            for _ in range(3):
                reactor.turn(DEADLINE)
            assert child.pid in own_children()

            ours = known
            while child.pid in own_children():
                reactor.turn(DEADLINE)
            child.returncode = -9  # reaped by the node in its place
        reactor.close()

    def test_without_a_descriptor_it_looks_again(self) -> None:
        """
        The node goes on; who is left behind is found when there is one again.
        """
        reactor = Reactor()
        known = own_children()
        orphans = Orphans(reactor, lambda: known)
        with subprocess.Popen(["sleep", "60"]) as child:
            with no_descriptor_left():
                orphans.look_soon()
                for _ in range(3):
                    reactor.turn(DEADLINE)
            assert child.pid in own_children()

            while child.pid in own_children():
                reactor.turn(DEADLINE)
            child.returncode = -9  # reaped by the node in its place
        reactor.close()

    def test_what_is_left_is_ended_before_the_node_leaves(self) -> None:
        """
        All of them, as well as those that are orphaned meanwhile.
        """
        reactor = Reactor()
        known = own_children()
        orphans = Orphans(reactor, lambda: known)
        children = [subprocess.Popen(["sleep", "60"]) for _ in range(AT_ONCE + 3)]
        orphans.end_all(time.monotonic() + DEADLINE)

        assert own_children() <= known
        for child in children:
            child.returncode = -9
        reactor.close()

    def test_the_end_waits_no_longer_than_it_may(self) -> None:
        """
        A worker that never comes to be must not keep the node.
        """
        reactor = Reactor()
        began = time.monotonic()
        Orphans(reactor, lambda: None).end_all(began + 0.05)

        assert time.monotonic() - began < DEADLINE
        reactor.close()


class TestOwnChildren:
    def test_the_living_and_the_dead_are_found(self) -> None:
        """
        One that has ended counts until it is reaped, whichever thread started it.
        """
        with (
            subprocess.Popen(["sleep", "60"]) as living,
            subprocess.Popen(["true"], stdout=subprocess.PIPE) as dead,
        ):
            os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
            assert {living.pid, dead.pid} <= own_children()
            living.kill()

        assert own_children().isdisjoint({living.pid, dead.pid})

    def test_a_kernel_without_the_list_is_asked_otherwise(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        More slowly, with the same answer.
        """
        monkeypatch.setattr("pathlib.Path.iterdir", _missing)
        with subprocess.Popen(["sleep", "60"]) as living:
            assert living.pid in own_children()
            living.kill()


def _missing(_path: object) -> None:
    raise FileNotFoundError
