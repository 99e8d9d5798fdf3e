import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from unittest.mock import patch

import psutil
import pytest

from plugin_worker import desk as desk_module
from plugin_worker.desk import Desk, report_name
from protocol import arena as arena_module
from protocol.errors import DeadlineExceeded, RemoteProtocolError, UsageError, to_wire
from protocol.messages import (
    FROM_ENDPOINT,
    FROM_WORKER,
    TO_ENDPOINT,
    TO_WORKER,
    Allocate,
    Allocated,
    Answer,
    Cause,
    DaemonChanged,
    Down,
    Explain,
    FromEndpoint,
    FromWorker,
    LaneOpened,
    ListServices,
    Loaded,
    Published,
    Refusal,
    Release,
    Reported,
    Shared,
    StopPlugin,
    Subscribe,
    Subscribed,
    ToEndpoint,
    ToWorker,
    Unexplained,
    Unshared,
    Unsubscribe,
)
from protocol.packets import Kind
from protocol.reactor import Reactor
from protocol.segments import SEALS
from protocol.turn import TURN
from protocol.umbilical import Umbilical
from tests.actors import Aside
from tests.clock import Clock
from tests.hosts import eventually

MINUTE = 60.0
PAGE = 4096
CRASH = Cause(kind="signal", code=11)


class Node:
    """The node's end of the umbilical, and what the desk passed on."""

    def __init__(self) -> None:
        up, down = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.umbilical = Umbilical(up, takes_descriptors=False)
        self.lower = Umbilical(down, takes_descriptors=True)
        self.other: list[ToEndpoint | ToWorker | bytes] = []
        self.desk = Desk(self.lower, lambda message, _: self.other.append(message))

    def say(self, message: ToEndpoint, *descriptors: int) -> None:
        self.umbilical.send(Kind.NODE, TO_ENDPOINT.encode(message), descriptors)

    def relay(self, message: ToWorker) -> None:
        self.umbilical.send(Kind.RELAY, TO_WORKER.encode(message))

    def heard(self) -> tuple[Kind, bytes]:
        message = self.umbilical.receive()
        assert message is not None
        return message[0], message[1]

    def question(self) -> FromEndpoint:
        """Wait for what the worker asks the node."""
        message = eventually(self.umbilical.receive)
        assert message is not None
        assert message[0] is Kind.NODE
        return FROM_ENDPOINT.decode(message[1])

    def frames(self) -> list[FromWorker]:
        """Give everything the worker has said to the daemon."""
        found = []
        while (message := self.umbilical.receive()) is not None:
            found.append(FROM_WORKER.decode(message[1]))
        return found


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.umbilical.close()
    node.lower.close()


class TestSending:
    def test_each_message_goes_to_whom_it_is_for(self, node: Node) -> None:
        """
        The node is told its own, the daemon's frames pass through it, facts carry their key.
        """
        node.desk.tell_node(Unsubscribe("Loss"))
        node.desk.tell_daemon(Loaded())
        node.desk.state("state", Loaded())
        node.desk.retract("state", Loaded())
        loaded = FROM_WORKER.encode(Loaded())

        assert node.heard() == (Kind.NODE, FROM_ENDPOINT.encode(Unsubscribe("Loss")))
        assert node.heard() == (Kind.RELAY, loaded)
        assert node.heard() == (Kind.FACT, b"\x05state" + loaded)
        assert node.heard() == (Kind.FACT, b"\x06-state" + loaded)


class TestAsking:
    def test_an_answer_reaches_who_asked(self, node: Node) -> None:
        """
        Each question has its name, and each answer finds its question.
        """
        node.relay(Answer("1", ["math"]))
        node.relay(Answer("2", []))

        assert node.desk.ask(ListServices, MINUTE) == ["math"]
        node.relay(Answer("2", ["late"]))
        assert node.desk.ask(ListServices, MINUTE) == ["late"]
        assert node.frames() == [ListServices("1"), ListServices("2")]

    def test_what_is_ready_leaves_first(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The answers to calls that came together do not wait for the answer to a question.
        """
        said: list[list[FromWorker]] = []
        with closing(Reactor()) as reactor:
            reactor.unsent[reactor] = lambda: said.append(node.frames())
            monkeypatch.setattr(TURN, "reactor", reactor)
            node.relay(Answer("1", []))
            node.desk.ask(ListServices, MINUTE)

        assert said == [[]]

    def test_a_refusal_is_raised(self, node: Node) -> None:
        """
        What the daemon refuses is raised as the error that it gave.
        """
        node.relay(Refusal("1", *to_wire(UsageError("no such thing"))))

        with pytest.raises(UsageError, match="no such thing"):
            node.desk.ask(ListServices, MINUTE)

    def test_silence_has_an_end(self, node: Node) -> None:
        """
        A question that nobody answers costs its time and no more.
        """
        with pytest.raises(DeadlineExceeded):
            node.desk.ask(ListServices, 0.0)

    def test_who_waits_hears_what_another_thread_has_read(self, node: Node) -> None:
        """
        In the thread that made it; one that waits elsewhere leaves the alarm alone.
        """
        alarm = os.eventfd(1, os.EFD_NONBLOCK)
        heeded: list[int] = []

        def heed() -> None:
            heeded.append(os.eventfd_read(alarm))
            node.relay(Answer("1", ["math"]))

        node.desk.alarm = (alarm, heed)
        assert node.desk.ask(ListServices, MINUTE) == ["math"]
        assert heeded == [1]

        os.eventfd_write(alarm, 1)
        never = os.eventfd(0)
        seen: list[bool] = []

        def wait() -> None:
            seen.append(node.desk.waiter(never)(time.monotonic() + 0.05))

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
        assert (seen, heeded) == ([False], [1])
        os.close(alarm)
        os.close(never)

    def test_who_sees_its_answer_early_takes_nothing_from_who_gives_it(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The thread that reads has a descriptor to write to, however soon the other one goes on.
        """
        given, has_gone_on = threading.Event(), threading.Event()
        write = os.eventfd_write
        failed: list[OSError] = []

        def write_late(fd: int, value: int) -> None:
            given.set()
            has_gone_on.wait(0.2)
            write(fd, value)

        def read() -> None:
            try:
                node.desk.read()
            except OSError as error:
                failed.append(error)

        def say() -> None:
            node.say(Subscribed("1", (b"frame",)))
            reader.start()
            given.wait()

        monkeypatch.setattr(os, "eventfd_write", write_late)
        reader = threading.Thread(target=read)
        assert node.desk.expect("1", say, MINUTE) == (b"frame",)
        has_gone_on.set()
        reader.join()
        assert failed == []

    def test_the_node_confirms_a_subscription(self, node: Node) -> None:
        """
        A question to the node is answered by the node.
        """
        node.say(Subscribed("1", (b"frame",)))

        assert node.desk.ask_node(lambda name: Subscribe(name, "Loss", 0, 0.0), MINUTE) == (
            b"frame",
        )

    def test_a_lane_comes_with_its_descriptor(self, node: Node) -> None:
        """
        The answer to a question for a service is a lane, and one that nobody asked for is closed.
        """
        ours, theirs = socket.socketpair()
        opened = LaneOpened(lane=3, request="1", peer=9, peer_name="math")
        node.say(LaneOpened(lane=2, request="0", peer=9, peer_name="math"), theirs.fileno())
        node.say(opened, theirs.fileno())
        theirs.close()

        answer, fd = node.desk.ask(ListServices, MINUTE)
        os.close(fd)

        assert answer == opened
        with ours:
            assert ours.recv(1) == b""

    def test_the_next_daemon_is_asked_again(self, node: Node) -> None:
        """
        A question that was on its way to a daemon that died goes to the one that took over.
        """
        node.say(DaemonChanged(0))
        node.say(DaemonChanged(8))
        node.relay(Answer("1", None))
        node.desk.ask(ListServices, MINUTE)

        assert node.frames() == [ListServices("1"), ListServices("1")]

    def test_what_became_of_an_event_is_waited_for(self, node: Node) -> None:
        """
        By its number; what nobody waits for any more is dropped.
        """
        node.say(Reported(2, 9, 9, ()))
        node.say(Reported(3, 2, 1, (("b", "no"),)))
        said: list[int] = []

        told = node.desk.expect(report_name(3), lambda: said.append(1), MINUTE)

        assert (said, told) == ([1], (2, 1, (("b", "no"),)))
        assert node.other == []

    def test_what_came_before_it_waits_is_done_meanwhile(self, node: Node) -> None:
        """
        Its answer may hang on it, and nothing else may come that would remind it.
        """
        desk = Desk(node.lower, lambda *_: None, lambda: node.say(Subscribed("1", (b"frame",))))

        assert desk.ask_node(lambda name: Subscribe(name, "Loss", 0, 0.0), MINUTE) == (b"frame",)

    def test_what_the_node_was_asked_is_not_asked_again(self, node: Node) -> None:
        """
        The node did not die with the daemon: it still knows the question.
        """
        node.say(DaemonChanged(8))
        node.say(Subscribed("1", (b"frame",)))
        node.desk.ask_node(lambda name: Subscribe(name, "Loss", 0, 0.0), MINUTE)

        assert node.heard()[0] is Kind.NODE
        assert node.umbilical.receive() is None


class TestReading:
    def test_what_nobody_waits_for_is_passed_on(self, node: Node) -> None:
        """
        Orders, events and news that are no answers go to the worker's loop, in order.
        """
        node.relay(StopPlugin())
        node.umbilical.send(Kind.EVENTS, b"events")
        node.say(Published(3, 30))
        node.desk.read()

        assert node.other == [StopPlugin(), b"events", Published(3, 30)]

    def test_one_thread_reads_at_a_time(self, node: Node) -> None:
        """
        Who finds another thread reading leaves it to that thread.
        """
        node.relay(StopPlugin())
        with node.desk._reading:
            node.desk.read()

        assert node.other == []

    def test_the_end_of_the_node_is_the_end(self, node: Node) -> None:
        """
        A worker whose node is gone is told so by whatever it does next.
        """
        node.umbilical.close()

        with pytest.raises(EOFError):
            node.desk.read()
        with pytest.raises(BrokenPipeError):
            node.desk.ask(ListServices, MINUTE)

    def test_a_peers_death_is_known_with_its_cause(self, node: Node) -> None:
        """
        Who asks how a peer ended is given the node's word, and asks nobody if that has come.
        """
        node.say(Down(9, "math", CRASH))
        node.desk.read()

        assert node.desk.cause_of_death(9, 0.0) == "SIGSEGV"
        assert node.umbilical.receive() is None

    def test_the_node_is_asked_how_a_peer_ended(self, node: Node) -> None:
        """
        A death that it tells, however late, is the answer; another's is none.
        """
        asking = Aside(lambda: node.desk.cause_of_death(9, time.monotonic() + MINUTE))
        assert node.question() == Explain("1", 9)
        node.say(Down(8, "shop", CRASH))
        node.say(Unexplained("another"))
        node.say(Down(9, "math", CRASH))

        assert asking.outcome() == "SIGSEGV"

    def test_a_node_that_says_it_soon_is_not_asked(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Nearly always the word comes by itself; a question would only keep the node from it.
        """
        monkeypatch.setattr(desk_module, "UNASKED_S", MINUTE)
        asking = Aside(lambda: node.desk.cause_of_death(9, time.monotonic() + MINUTE))
        node.say(Down(9, "math", CRASH))

        assert asking.outcome() == "SIGSEGV"
        assert node.umbilical.receive() is None

    def test_a_peer_that_lives_has_no_cause_of_death(self, node: Node) -> None:
        """
        The node says that there is none to tell, and nobody waits any longer.
        """
        asking = Aside(lambda: node.desk.cause_of_death(9, time.monotonic() + MINUTE))
        node.question()
        node.say(Unexplained("1"))

        assert asking.outcome() == "unknown cause"

    def test_a_death_that_another_thread_has_read_is_known(self, node: Node) -> None:
        """
        Whoever waits for it is woken, though nothing is left to be read.
        """
        asking = Aside(lambda: node.desk.cause_of_death(9, time.monotonic() + MINUTE))
        node.question()
        with node.desk._reading:
            node.say(Down(9, "math", CRASH))
            message = node.lower.receive()
            assert message is not None
            node.desk._sort(*message)

        assert asking.outcome() == "SIGSEGV"

    def test_a_node_that_says_nothing_is_waited_for_no_longer_than_that(self, node: Node) -> None:
        """
        Then the cause is unknown; a late answer disturbs nobody.
        """
        assert node.desk.cause_of_death(9, time.monotonic() + 0.01) == "unknown cause"
        node.say(Unexplained("1"))
        node.say(Published(3, 30))
        node.desk.read()

        assert node.other == [Published(3, 30)]

    def test_a_thread_that_is_reading_waits_for_nothing(self, node: Node) -> None:
        """
        A finalizer may be what asks, in the middle of it; the answer would be read after that.
        """
        told: list[str] = []
        node.desk._other = lambda *_: told.append(
            node.desk.cause_of_death(9, time.monotonic() + MINUTE)
        )
        node.say(Published(3, 30))
        node.desk.read()

        assert told == ["unknown cause"]

    def test_waiting_for_news_has_an_end(self, node: Node) -> None:
        """
        Who waits reads what comes, and stops when the time is up.
        """
        assert not node.desk.wait_for_news(0.0)
        node.say(Published(1, 10))

        assert node.desk.wait_for_news(time.monotonic() + MINUTE)
        assert node.other == [Published(1, 10)]


def memory() -> int:
    """Make a sealed segment of one page."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, PAGE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


class TestSharedMemory:
    def test_a_segment_comes_with_its_descriptor(self, node: Node) -> None:
        """
        The answer to a request is a number and a descriptor of the worker's own.
        """
        fd = memory()
        node.say(Allocated("1", 7), fd)
        number, own = node.desk.ask_node(lambda name: Allocate(name, 3, PAGE), MINUTE)

        assert number == 7
        assert os.path.sameopenfile(own, fd)
        os.close(own)
        os.close(fd)

    def test_the_node_may_refuse(self, node: Node) -> None:
        """
        Its reason is raised where it was asked.
        """
        node.say(Refusal("1", *to_wire(UsageError("too much"))))

        with pytest.raises(UsageError, match="too much"):
            node.desk.ask_node(lambda name: Allocate(name, 3, PAGE), MINUTE)

    def test_a_segment_that_nobody_waits_for_any_more(self, node: Node) -> None:
        """
        It is given back, and its descriptor is closed.
        """
        reading, writing = os.pipe()
        node.say(Allocated("1", 7), writing)
        os.close(writing)
        node.desk.read()

        assert node.heard() == (Kind.NODE, FROM_ENDPOINT.encode(Release(7)))
        assert os.read(reading, 1) == b""
        os.close(reading)

    def test_a_descriptor_that_nobody_expects(self, node: Node) -> None:
        """
        It is closed.
        """
        reading, writing = os.pipe()
        node.say(Published(1, 10), writing)
        os.close(writing)
        node.desk.read()

        assert os.read(reading, 1) == b""
        os.close(reading)

    def test_others_segments_are_mapped_when_they_come(self, node: Node) -> None:
        """
        And unmapped when they go; their descriptors are not kept.
        """
        fd, before = memory(), psutil.Process().num_fds()
        node.say(Shared(3, 7, PAGE), fd)
        node.desk.read()
        assert node.desk.arena.mapped == (1, PAGE)
        assert node.desk.arena.incoming(3, 7).size == PAGE
        assert psutil.Process().num_fds() == before

        node.say(Unshared(3, 7))
        node.desk.read()
        assert node.desk.arena.mapped == (0, 0)
        os.close(fd)

    def test_who_names_what_is_not_there_is_waited_for_once(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The thread that waits serves others too; an honest peer still has its time.
        """
        monkeypatch.setattr(arena_module, "time", clock := Clock())
        waits: list[float] = []

        def wait(deadline: float) -> bool:
            waits.append(deadline - clock.now)
            return False

        with patch.object(node.desk, "wait_for_news", wait):
            for lane, peer in ((3, 66), (4, 66), (5, 77)):
                with pytest.raises(RemoteProtocolError, match="does not have"):
                    node.desk.arena.incoming(lane, 7, peer)

        assert [wait_s > 1.0 for wait_s in waits] == [True, False, True]

    @pytest.mark.parametrize("lie", ["no seals", "another size", "no memory", "nothing"])
    def test_what_is_no_segment_is_not_mapped(self, node: Node, lie: str) -> None:
        """
        Else who sent it could cut it short under its reader, which ends the process.
        """
        fd = memory() if lie == "another size" else os.open("/dev/zero", os.O_RDONLY)
        if lie == "no seals":
            os.close(fd)
            fd = os.memfd_create("test")
            os.ftruncate(fd, 2 * PAGE)
        node.say(Shared(3, 7, 2 * PAGE), *([] if lie == "nothing" else [fd]))
        node.desk.read()
        os.close(fd)

        assert node.desk.arena.mapped == (0, 0)
        with pytest.raises(RemoteProtocolError, match="cannot be mapped"):
            node.desk.arena.incoming(3, 7)

    def test_a_finalizer_in_the_middle_of_sending(self, node: Node) -> None:
        """
        It waits for no lock, or it would wait for its own thread; what it says leaves all the same.
        """
        with node.desk._writing:
            node.desk.tell_node_soon(Release(7))
            assert node.umbilical.receive() is None
        node.desk.tell_node(Unsubscribe("Loss"))

        assert node.heard() == (Kind.NODE, FROM_ENDPOINT.encode(Unsubscribe("Loss")))
        assert node.heard() == (Kind.NODE, FROM_ENDPOINT.encode(Release(7)))
        node.desk.tell_node_soon(Release(8))
        assert node.heard() == (Kind.NODE, FROM_ENDPOINT.encode(Release(8)))
