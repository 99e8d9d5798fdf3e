"""A lane belongs to one thread: many call at once, and what breaks one lane breaks no other."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from protocol.deaths import WORD_S
from protocol.errors import LocalProtocolError, RemoteProtocolError
from spiral_host import Host, RemoteError, WorkerLost
from tests.hosts import DEADLINE, all_ready, eventually, plugin

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def lanes(shared: Host) -> Host:
    assert all_ready(shared.load([plugin("relay"), plugin("liar")]))
    return shared


@pytest.fixture
def liar(lanes: Host) -> Iterator[Host]:
    """A host whose liar lies; nobody else may have been restarted by it."""
    before = [(info.id, info.pid) for info in lanes.list_plugins() if info.id != "liar"]
    yield lanes
    assert [(p.id, p.pid) for p in lanes.list_plugins() if p.id != "liar"] == before


class TestThreads:
    def test_of_an_application(self, lanes: Host) -> None:
        """Each gets its own answers, through lanes of its own."""
        polite, right = lanes.get_service("polite"), [0] * 8

        def work(me: int) -> None:
            for number in range(200):
                right[me] += polite.echo([me, number]) == [me, number]

        threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert right == [200] * 8

    def test_of_a_worker(self, lanes: Host) -> None:
        """A plugin's threads call at the same time; its own loop goes on serving."""
        assert lanes.get_service("relay").call_in_threads("polite", 6, 100) == [100] * 6

    def test_their_lanes_go_with_them(self, lanes: Host) -> None:
        """Neither side keeps a descriptor of a thread that has ended."""
        liar, relay = lanes.get_service("liar"), lanes.get_service("relay")
        liar.echo(1)
        held, own = liar.lanes(), psutil.Process().num_fds()
        for _ in range(5):
            thread = threading.Thread(target=liar.echo, args=(2,))
            thread.start()
            thread.join(DEADLINE)
        assert relay.call_in_threads("liar", 5, 3) == [3] * 5
        # The relay's own thread may keep the one lane that it opened for this.
        eventually(lambda: liar.lanes() <= held + 1)
        eventually(lambda: psutil.Process().num_fds() <= own)


class TestSizes:
    @pytest.mark.parametrize("size", [0, 1, 208 * 1024, 512 * 1024, LIMIT - 200])
    def test_up_to_a_mebibyte(self, lanes: Host, size: int) -> None:
        """Bytes of any length below the limit arrive as they are, between workers too."""
        value = np.random.default_rng(1).bytes(size)
        assert lanes.get_service("polite").echo(value) == value
        assert lanes.get_service("relay").call("polite", "echo", value) == {"value": value}

    def test_arrays(self, lanes: Host) -> None:
        """Shape and dtype arrive; what arrived is read-only."""
        array = np.arange(LIMIT // 8 - 100, dtype=np.float64).reshape(-1, 4)
        arrived = lanes.get_service("polite").echo(array)
        assert arrived.dtype == array.dtype
        assert np.array_equal(arrived, array)
        assert not arrived.flags.writeable

    @pytest.mark.parametrize(
        "value", ["x" * LIMIT, {1, 2}, object(), 1 << 70, np.array([object()])]
    )
    def test_what_cannot_travel_is_not_sent(self, lanes: Host, value: object) -> None:
        """The caller is told before anything leaves; the lane stays as it was."""
        polite = lanes.get_service("polite")
        polite.add(1, 1)
        calls = lanes.get("polite").calls
        with pytest.raises(LocalProtocolError):
            polite.echo(value)
        assert polite.add(1, 1) == 2
        info = lanes.get("polite")
        assert (info.calls, info.errors) == (calls + 1, 0)

    def test_nested_too_deep(self, lanes: Host) -> None:
        """What no decoder should have to follow is not sent."""
        value: list[object] = []
        for _ in range(5000):
            value = [value]
        with pytest.raises(LocalProtocolError):
            lanes.get_service("polite").echo(value)
        assert lanes.get_service("polite").add(1, 1) == 2

    def test_a_result_that_is_too_large(self, lanes: Host) -> None:
        """The callee says so in place of it; the lane goes on."""
        relay = lanes.get_service("relay")
        with pytest.raises(RemoteError, match=r"the limit is 1048576"):
            relay.large(LIMIT)
        assert relay.call("polite", "add", 1, 1) == {"value": 2}


GARBAGE = {
    "a length beyond the limit": b"\xff" * 64,
    "no msgpack": b"\0\0\0\x02\xc1\xc1",
    "no call and no reply": b"\0\0\0\x01\x05",
    "an empty frame": b"\0\0\0\0",
    "nested far too deep": (4096).to_bytes(4, "big") + b"\x91" * 4096,
    "of the wrong types": b"\0\0\0\x07\x96\xa1x\x01\x02\x03\x04\x05",
}


class TestLies:
    @pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
    def test_a_callee_s_lane_is_lost_alone(self, liar: Host, body: bytes) -> None:
        """Its caller gets a protocol error; the next call goes through a new lane."""
        stub = liar.get_service("liar")
        pid = stub.pid()
        with pytest.raises(RemoteProtocolError):
            stub.on_lanes(body)
        assert stub.pid() == pid
        assert liar.get_service("polite").add(1, 1) == 2

    @pytest.mark.parametrize("caller", ["application", "worker"])
    def test_a_callee_that_shuts_its_lanes_and_lives(self, liar: Host, caller: str) -> None:
        """Its caller is not kept waiting for a cause of death that nobody will ever tell."""
        stub, relay = liar.get_service("liar"), liar.get_service("relay")
        pid = stub.pid()
        assert relay.call("liar", "echo", 1) == {"value": 1}
        started = time.monotonic()
        try:
            if caller == "application":
                with pytest.raises(WorkerLost, match="unknown cause"):
                    stub.shut_lanes(caller)
            else:
                lost = relay.call("liar", "shut_lanes", caller)
                assert (lost["error"], lost["fields"][1]) == ("WorkerLost", "unknown cause")
            assert time.monotonic() - started < WORD_S / 2
        finally:
            (Path(liar.status()["data_dir"]) / "liar" / caller).touch()
        assert stub.pid() == pid

    @pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
    def test_a_caller_s_lane_is_lost_alone(self, liar: Host, body: bytes) -> None:
        """The callee hangs up on that lane; its other callers never notice."""
        polite = liar.get_service("polite")
        polite.add(1, 1)
        relay = liar.get_service("relay")
        relay.call("polite", "add", 1, 1)
        answers = liar.get_service("liar").to("polite", body)
        assert answers[-1] == 4
        assert polite.add(1, 1) == 2
        assert relay.call("polite", "add", 1, 1) == {"value": 2}

    def test_a_lie_to_the_application_s_service(self, liar: Host) -> None:
        """An application that offers a service is as safe from its callers as a worker."""

        class Own:
            def echo(self, value: object) -> object:
                return value

        liar.register_service("own", Own())
        answers = liar.get_service("liar").to("own", b"\xff" * 64)
        assert answers[-1] == 4
        assert liar.get_service("relay").call("own", "echo", 1) == {"value": 1}
        liar.unregister_service("own")
