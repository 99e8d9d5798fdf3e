"""What a plugin may not call, publish, hear or set: refused where it is tried, and to everybody.

`bound` is held to little. It tries by its library, and behind its library's back: what it says then
is what the node, the daemon or its callee meets.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import msgpack
import pytest

from protocol.messages import FROM_ENDPOINT, FROM_WORKER, Dropped, Resolve, Subscribe, WasDenied
from protocol.names import Topic
from protocol.packets import Kind
from protocol.runs import Publication, pack_body, pack_publication
from spiral_host import Host, PluginEvent, SpiralHostError, WorkerLost
from spiral_host.rundir import REFUSALS
from tests.doors import packet, run_dir
from tests.hosts import DEADLINE, Run, all_ready, eventually

Dynamic: TypeAlias = Any
"""A stub."""

BOUND = '''
# /// script
# [tool.spiral-host]
# id = "bound"
# version = "1.0.0"
# [tool.spiral-host.permissions]
# services = ["shop"]
# publish = ["Mine.*"]
# subscribe = ["Hers.*"]
# config = ["mine.*"]
# ///
import os
import select
import socket

from plugin_worker import Plugin, PluginEvent


class Bound(Plugin):
    def on_load(self, ctx):
        self.heard = []
        ctx.register_service("bound", self.Service(self, ctx))

    def on_event(self, event, ctx):
        self.heard.append(event.type)

    class Service:
        def __init__(self, plugin, ctx):
            self.plugin, self.ctx = plugin, ctx

        def call(self, service, method="look", times=1):
            called = lambda: getattr(self.ctx.wait_service(service, 20.0), method)()
            return [outcome(called) for _ in range(times)][-1]

        def nested(self):
            self.ctx.wait_service("back", 20.0)

        def listed(self):
            return self.ctx.list_services(), self.ctx.find_by_capability("Custom(sells)")

        def publish(self, name, how="publish", times=1):
            bus, event = self.ctx.event_bus, PluginEvent.custom(name)
            tries = [outcome(lambda: getattr(bus, how)(event)) for _ in range(times)]
            return tries[-1]

        def stick(self, name):
            return outcome(lambda: self.ctx.event_bus.make_sticky(name))

        def subscribe(self, pattern, **past):
            return outcome(lambda: self.ctx.subscribe(pattern, print, **past))

        def config(self, how, *arguments):
            return outcome(lambda: getattr(self.ctx, how)(*arguments))

        def heard(self):
            return self.plugin.heard

        def read(self, path):
            return outcome(lambda: open(path).read())

        def pid(self):
            return os.getpid()

        def on_lane(self, service, frames):
            """Call on the lane to a service by frames of one's own; give what comes back."""
            self.ctx.wait_service(service, 20.0).look()
            lane = self.ctx._host._caller.lines.by_service[service].lane
            answers = []
            for frame in frames:
                os.write(lane.fd, frame)
                select.select([lane.fd], [], [], 20.0)
                answers.append(os.read(lane.fd, 65536))
            return answers

        def on_umbilical(self, packets):
            fd = self.ctx._host._desk.fd
            room = select.poll()
            room.register(fd, select.POLLOUT)
            for packet in packets:
                room.poll()
                os.write(fd, packet)


def outcome(attempt):
    try:
        value = attempt()
    except PermissionError as error:
        return "PermissionDenied", str(error)
    except Exception as error:
        return type(error).__name__, str(error)
    return "done", value if isinstance(value, (str, dict, type(None))) else ""
'''

SHOP = """
# /// script
# [tool.spiral-host]
# id = "shop"
# version = "1.0.0"
# capabilities = ["Custom(sells)"]
# ///
from plugin_worker import Plugin, PluginEvent


class Door:
    def look(self):
        return "open"


class Back:
    def look(self):
        return "the money"


class Shop(Plugin):
    def on_load(self, ctx):
        ctx.register_service("shop", Door())
        ctx.register_service("back", Back())
        ctx.register_service("till", Back())
"""


def write(folder: Path, **plugins: str) -> list[str]:
    """Write plugins of one file each; give their paths."""
    for name, text in plugins.items():
        (folder / f"{name}.py").write_text(text)
    return [str(folder / f"{name}.py") for name in plugins]


@pytest.fixture(scope="module")
def house(shared: Host, tmp_path_factory: pytest.TempPathFactory) -> Host:
    folder = tmp_path_factory.mktemp("plugins")
    assert all_ready(shared.load(write(folder, shop=SHOP, bound=BOUND)))
    return shared


@pytest.fixture
def host(house: Host) -> Iterator[Host]:
    """A host with `bound` in a new life; afterwards nobody else has noticed anything."""
    assert house.restart("bound").ok
    before = house.status()["pid"], house.get("shop").pid
    yield house
    assert (house.status()["pid"], house.get("shop").pid) == before
    assert house.get_service("back").look() == "the money"


@pytest.fixture
def bound(host: Host) -> Dynamic:
    return host.get_service("bound")


def audited(host: Host) -> list[tuple[str, str, str, int]]:
    """Give what the audit log says was refused: plugin, permission, what, how often."""
    path = Path(run_dir(host)) / REFUSALS
    lines = path.read_text().splitlines() if path.exists() else ()  # until the first there is none
    rows = [row for row in map(json.loads, lines) if row["kind"] == "refused"]
    return [(row["plugin_id"], row["permission"], row["what"], row["times"]) for row in rows]


def denied(tried: list[str], permission: str, what: str) -> bool:
    """Say whether an attempt was refused, in words that name permission, subject and cure."""
    kind, text = tried
    assert (kind, "spiral-host grant bound" in text) == ("PermissionDenied", True), tried
    return f"{permission}: {what};" in text


def ends(host: Host, bound: Dynamic, *packets: bytes) -> bool:
    """Have it send packets behind its library's back; say whether that was its end."""
    pid = bound.pid()
    with suppress(WorkerLost):
        bound.on_umbilical(list(packets))
    eventually(lambda: host.get("bound").pid not in {None, pid})
    return True


def publication(name: str, count: int = 1, *, sticky: bool = False) -> bytes:
    body = pack_body([b"\xc0"] * count)
    said = Publication(Topic(name), body, count, sticky=sticky)
    return packet(Kind.EVENTS, pack_publication(said))


class TestServices:
    def test_only_what_may_be_called_is_called(self, bound: Dynamic) -> None:
        """A plugin that offers two services is called for one of them."""
        assert bound.call("shop") == ["done", "open"]
        assert denied(bound.call("back"), "services", "back")
        assert denied(bound.call("nobody"), "services", "nobody")

    def test_a_lane_that_is_there_does_not_serve_the_rest(self, bound: Dynamic) -> None:
        """The callee looks at the name too, for it has one lane for all that it offers."""
        calls = [msgpack.packb([n, name, "look", [], None, 1e12, None]) for n, name in NUMBERED]
        frames = [len(call).to_bytes(4, "big") + call for call in calls]
        refused, served = (msgpack.unpackb(answer[4:]) for answer in bound.on_lane("shop", frames))

        assert refused[1:3] == [1, "PermissionDenied"]
        assert served[1:] == [0, "open"]

    def test_a_question_of_its_own_gets_no_lane(self, host: Host, bound: Dynamic) -> None:
        """Who asks the daemon behind the library's back is refused by the daemon."""
        question = FROM_WORKER.encode(Resolve(request="q", service="till", wait_s=30.0))
        bound.on_umbilical([packet(Kind.RELAY, question)] * 3)
        rows = eventually(lambda: [row for row in audited(host) if row[2] == "till"])
        assert len(rows) <= 2
        assert bound.call("shop") == ["done", "open"]

    def test_what_may_not_be_called_is_not_seen(self, bound: Dynamic) -> None:
        """Nor is it found by what it can do, unless something of it may be called."""
        assert bound.listed() == [["bound", "shop"], ["shop"]]

    def test_a_refusal_in_a_call_reaches_the_caller(self, bound: Dynamic) -> None:
        """As what it was there: the permission was its callee's to ask for."""
        with pytest.raises(PermissionError, match="PermissionDenied: bound: .* services: back"):
            bound.nested()


NUMBERED = ((900_001, "back"), (900_002, "shop"))


def known(host: Host) -> set[tuple[str, str]]:
    return {(permission, what) for _, permission, what, _ in audited(host)}


class TestEvents:
    @pytest.mark.parametrize("how", ["publish", "publish_report"])
    def test_only_what_may_be_published_is(self, host: Host, bound: Dynamic, how: str) -> None:
        """Somebody listens, so that what is published arrives."""
        seen: list[PluginEvent] = []
        subscription = host.subscribe("*", seen.append)
        assert denied(bound.publish("Hers.a", how), "publish", "Hers.a")
        assert bound.publish("Mine.a", how)[0] == "done"

        eventually(lambda: [event for event in seen if event.type == "Mine.a"])
        host.unsubscribe(subscription)
        assert not [event for event in seen if event.type == "Hers.a"]

    def test_only_that_is_made_sticky(self, bound: Dynamic) -> None:
        """Whoever could would use up the places of the others."""
        assert denied(bound.stick("Hers.a"), "publish", "Hers.a")
        assert bound.stick("Mine.sticky")[0] == "done"

    def test_only_what_may_be_heard_is(self, bound: Dynamic) -> None:
        """A pattern that stands for more than that is refused, and so is the past."""
        assert denied(bound.subscribe("*"), "subscribe", "*")
        assert denied(bound.subscribe("Hers"), "subscribe", "Hers")
        assert denied(bound.subscribe("Mine.a", replay=10), "subscribe", "Mine.a")
        assert denied(bound.subscribe("Mine.a", since=0.0), "subscribe", "Mine.a")
        assert bound.subscribe("Hers.a.*", replay=10)[0] == "done"

    def test_without_a_word_it_hears_what_it_may(self, host: Host, bound: Dynamic) -> None:
        """`on_event` is subscribed to that, where the manifest names no events."""
        host.publish(PluginEvent.custom("Other"))
        host.publish(PluginEvent.custom("Hers.last"))

        eventually(lambda: "Hers.last" in bound.heard())
        assert bound.heard() == ["Hers.last"]

    @pytest.mark.parametrize(
        ("what", "said"),
        [
            ("publish Hers.a", publication("Hers.a")),
            ("publish Hers.a", publication("Hers.a", sticky=True)),
            ("publish Hers.a", packet(Kind.NODE, FROM_ENDPOINT.encode(Dropped("Hers.a", 1)))),
            ("subscribe *", packet(Kind.NODE, FROM_ENDPOINT.encode(Subscribe("q", "*", 9, inf)))),
        ],
        ids=["publish", "sticky", "dropped", "subscribe"],
    )
    def test_behind_the_librarys_back_is_the_end(
        self, host: Host, bound: Dynamic, what: str, said: bytes
    ) -> None:
        """The node refuses it; nobody hears the event, and the operator hears of it."""
        seen: list[PluginEvent] = []
        subscriptions = [host.subscribe("Hers.*", seen.append)]
        refused: list[PluginEvent] = []
        subscriptions.append(host.subscribe("PermissionRefused", refused.append))
        life = host.get("bound").incarnation
        assert ends(host, bound, said)

        eventually(lambda: what in [f"{e.permission} {e.what}" for e in refused])  # type: ignore[attr-defined]
        for subscription in subscriptions:
            host.unsubscribe(subscription)
        assert seen == []
        report = eventually(lambda: (r := host.report("bound")) and r.incarnation == life and r)
        assert "no permission to" in str(report)


class TestSettings:
    def test_only_ones_own_are_seen(self, host: Host, bound: Dynamic) -> None:
        """Others are not there for it, or refused where they are asked for."""
        host.set_config("mine.x", "1")
        host.set_config("hers.x", "2")

        assert bound.config("get_config", "mine.x") == ["done", "1"]
        assert bound.config("list_config") == ["done", {"mine.x": "1"}]
        assert denied(bound.config("get_config", "hers.x"), "config", "hers.x")
        assert denied(bound.config("list_config", "hers."), "config", "hers.")
        assert denied(bound.config("get_config", "mine"), "config", "mine")

    def test_only_ones_own_are_changed(self, host: Host, bound: Dynamic) -> None:
        """Nothing changes where it is refused."""
        host.set_config("hers.x", "2")
        assert denied(bound.config("set_config", "hers.x", "3"), "config", "hers.x")
        assert bound.config("set_config", "mine.y", "3")[0] == "done"

        assert host.get_config("hers.x") == "2"
        assert host.get_config("mine.y") == "3"


class TestRefusals:
    def test_everybody_who_should_know_is_told(self, host: Host, bound: Dynamic) -> None:
        """The plugin by an error, the operator by an event and a line of the audit log."""
        refused: list[PluginEvent] = []
        subscription = host.subscribe("PermissionRefused", refused.append)
        bound.publish("Told.once")
        bound.call("told")
        assert denied(bound.read("/etc/passwd"), "read", "/etc/passwd")

        told = {("publish", "Told.once"), ("services", "told"), ("read", "/etc/passwd")}
        # What earlier tests were refused again is told ten seconds later: now, perhaps.
        eventually(lambda: told <= {(e.permission, e.what) for e in refused})  # type: ignore[attr-defined]
        host.unsubscribe(subscription)
        assert {e.plugin_id for e in refused} == {"bound"}  # type: ignore[attr-defined]
        assert {e.source for e in refused} == {"spiral-host"}
        eventually(lambda: told <= known(host))

    def test_a_flood_of_them_costs_a_few_lines(self, host: Host, bound: Dynamic) -> None:
        """Ten thousand are news once; the plugin is not slowed down for it, and lives."""
        bound.publish("Flood", "publish", 10_000)
        lie = FROM_ENDPOINT.encode(WasDenied("network", "a flood", 1))
        bound.on_umbilical([packet(Kind.NODE, lie)] * 2000)
        eventually(lambda: ("network", "a flood") in known(host))

        rows = [row for row in audited(host) if row[2] in {"Flood", "a flood"}]
        assert len(rows) <= 4
        assert host.get_service("shop").look() == "open"

    @pytest.mark.parametrize(
        "lie", [WasDenied("everything", "x", 1), WasDenied("read", "x", -1)], ids=["word", "count"]
    )
    def test_what_cannot_be_meant_is_the_end(
        self, host: Host, bound: Dynamic, lie: WasDenied
    ) -> None:
        """A worker's word is looked at like all that it says."""
        assert ends(host, bound, packet(Kind.NODE, FROM_ENDPOINT.encode(lie)))

    def test_what_a_worker_has_made_up_is_cut(self, host: Host, bound: Dynamic) -> None:
        """It stands in the audit log, in one line."""
        lie = FROM_ENDPOINT.encode(WasDenied("read", "made up \n" + "x" * 50_000, 1))
        bound.on_umbilical([packet(Kind.NODE, lie)])

        made_up = eventually(lambda: [row for row in audited(host) if "made up" in row[2]])
        assert len(made_up[0][2]) <= 200


class TestTakeover:
    def test_the_next_daemon_holds_it_too(self, run: Run, tmp_path: Path) -> None:
        """It is told by the node with which permissions each worker was started."""
        host = run.start()
        assert all_ready(host.load(write(tmp_path, shop=SHOP, bound=BOUND)))
        pid = host.get("bound").pid
        run.kill_daemon()
        run.start_daemon()
        again = run.connect()
        bound = again.get_service("bound")

        assert again.get("bound").pid == pid
        assert denied(bound.call("back"), "services", "back")
        assert bound.call("shop") == ["done", "open"]
        assert denied(bound.config("set_config", "hers.x", "3"), "config", "hers.x")
        assert denied(bound.publish("Hers.a"), "publish", "Hers.a")


LIMITED = BOUND.replace(
    "# ///\nimport",
    "# [tool.spiral-host.limits]\n# event_rate = 50\n# call_rate = 5\n# ///\nimport",
).replace('"bound"', '"limited"')

MANY = 200
"""Tries in one go: with the last of them the rate is reached, however slow the machine."""


@pytest.fixture(scope="module")
def limited(house: Host, tmp_path_factory: pytest.TempPathFactory) -> Dynamic:
    assert all_ready(house.load(write(tmp_path_factory.mktemp("limited"), limited=LIMITED)))
    return house.get_service("limited")


class TestRates:
    def test_events_beyond_the_rate_are_refused_by_name(self, limited: Dynamic) -> None:
        """A second's worth at once, whoever wants them; then what trickles in."""
        assert limited.publish("Mine.a", "publish", 50)[0] == "done"
        kind, text = limited.publish("Mine.a", "publish", MANY)

        assert (kind, "event_rate is reached: 50 events a second" in text) == ("LimitReached", True)

    def test_behind_the_librarys_back_its_sends_wait(self, house: Host, limited: Dynamic) -> None:
        """The node does not read on before the rate allows it; all arrive in the end."""
        came: list[PluginEvent] = []
        subscription = house.subscribe("Mine.flood", came.append)
        began = time.monotonic()  # and not when the first was heard of, which may be late
        limited.on_umbilical([publication("Mine.flood", 20)] * 15)

        eventually(lambda: len(came) == 300)
        assert time.monotonic() - began >= (300 - 100 - 20) / 100 - 0.2
        house.unsubscribe(subscription)

    def test_calls_beyond_the_rate_are_refused_by_name(self, limited: Dynamic) -> None:
        """By its own library, before they leave."""
        kind, text = limited.call("shop", "look", MANY)

        assert (kind, "5 calls a second (call_rate)" in text) == ("Overloaded", True)

    def test_behind_the_librarys_back_the_callee_refuses(self, limited: Dynamic) -> None:
        """Calls by frames of one's own are counted where they come."""
        time.sleep(0.3)  # one call's worth, for the library's own
        call = msgpack.packb([900_001, "shop", "look", [], None, 1e12, None])
        answers = limited.on_lane("shop", [len(call).to_bytes(4, "big") + call] * MANY)
        kinds = [msgpack.unpackb(answer[4:])[2] for answer in answers]

        assert kinds[0] == "open"
        assert kinds[-1] == "Overloaded"


def test_a_permission_is_no_error_of_ours(house: Host) -> None:
    """Applications are not limited: the same is theirs to do."""
    house.publish(PluginEvent.custom("Hers.a"))
    assert house.get_service("back").look() == "the money"
    with pytest.raises(SpiralHostError):
        house.publish(PluginEvent.PermissionRefused("shop", "read", "/"))


NAMED = """
# /// script
# [tool.spiral-host]
# id = "{me}"
# version = "1.0.0"
# ///
from plugin_worker import Plugin


class Service:
    def whose(self):
        return "{me}"


class Named(Plugin):
    def on_load(self, ctx):
        ctx.register_service("name", Service())
"""


class TestNames:
    def test_a_service_stays_whose_it_is(self, house: Host, tmp_path: Path) -> None:
        """Another plugin that offers its name is told so, and called once the first has gone."""
        for me in ("first", "second"):
            assert all_ready(house.load(write(tmp_path, **{me: NAMED.format(me=me)})))
        log = Path(run_dir(house)) / "logs" / "second.log"
        eventually(lambda: "service name is offered by first" in log.read_text())
        assert house.get_service("name").whose() == "first"

        assert house.restart("second").ok
        assert house.get_service("name").whose() == "first"
        house.unload("first")
        eventually(lambda: house.wait_service("name", DEADLINE).whose() == "second")
        house.unload("second")
