import json
import time
from pathlib import Path

import pytest

from protocol.messages import NodeDetails, Sample
from spiral_host.config import DaemonConfig
from spiral_host.lifecycle import Lifecycle, State
from spiral_host.policy import Policy
from spiral_host.records import LoadResult, load_result, plugin_info
from spiral_host.registry import Offered, Plugin, Registry
from spiral_host.views import (
    ENDED,
    IMPOSSIBLE,
    TRACEBACKS,
    plugin_row,
    sandbox_hindrance,
    sandbox_row,
    sandbox_words,
    shortened,
    status_row,
)
from tests.unit.spiral_host.fakes import manifest


def node(*, sandbox: str = "standard", **missing: str) -> NodeDetails:
    return NodeDetails(
        name="n", pid=7, socket="/s", sandbox=sandbox, missing=missing, workers=(), exits=()
    )


def asking(sandbox: str, *, best_effort: bool = False) -> DaemonConfig:
    return DaemonConfig(run_dir=Path("/r"), sandbox=sandbox, best_effort=best_effort)


def plugin(registry: Registry, name: str, *, alive: bool) -> Plugin:
    plugin = Plugin(
        manifest(name, {"base": "*"}, capabilities=(f"custom:{name}",)), Lifecycle(Policy())
    )
    registry.take_in(plugin)
    if alive:
        plugin.lifecycle.state, plugin.incarnation, plugin.pid = State.READY, 5, 1000
        plugin.ready_at, plugin.layers = time.monotonic(), ("landlock", "seccomp")
        plugin.figures = Sample(
            incarnation=5,
            memory=1 << 20,
            cpu_s=0.5,
            threads=2,
            calls=9,
            errors=1,
            lag=3,
            missed=2,
            descriptors=12,
        )
        registry.offer(Offered("math", ("add",), 5, name))
    return plugin


class TestTracebacks:
    def test_together_they_fit_in_an_answer(self) -> None:
        """
        Of each its end is kept, where it says what was raised.
        """
        rows: list[dict[str, object]] = [
            {"traceback": f"{'x' * 60_000}{number}"} for number in range(20)
        ]
        rows += [{"traceback": ""}]

        shown = [str(row["traceback"]) for row in shortened(list(rows))]

        assert sum(map(len, shown)) <= TRACEBACKS + 20 * len("...\n")
        assert all(text.endswith(str(number)) for number, text in enumerate(shown[:20]))

    def test_few_are_shown_whole(self) -> None:
        """
        As long as a plugin's traceback may be.
        """
        rows: list[dict[str, object]] = [{"traceback": "x" * 60_000}, {"traceback": ""}]

        assert shortened(list(rows)) == rows


class TestPlugin:
    def test_a_living_plugin_is_shown_whole(self) -> None:
        """
        What the daemon says becomes the application's record, figures and services included.
        """
        registry = Registry()
        info = plugin_info(plugin_row(plugin(registry, "a", alive=True), registry))

        assert (info.id, info.state, info.pid) == ("a", "ready", 1000)
        assert (info.services, info.capabilities) == (("math",), ("Custom(a)",))
        assert (info.calls, info.errors, info.memory, info.cpu) == (9, 1, 1 << 20, 0.5)
        assert info.descriptors == 12
        assert info.sandbox == ("landlock", "seccomp")
        assert info.dependencies == {"base": "*"}
        assert info.uptime_s is not None
        assert info.uptime_s >= 0

    def test_a_plugin_without_a_process_has_no_figures(self) -> None:
        """
        What is not measured is None, not zero.
        """
        registry = Registry()
        info = plugin_info(plugin_row(plugin(registry, "a", alive=False), registry))

        assert (info.state, info.calls, info.services) == ("declared", 0, ())
        of_a_process = (info.pid, info.memory, info.cpu, info.threads, info.descriptors)
        assert set(of_a_process) == {info.uptime_s} == {None}

    def test_a_record_is_fit_for_json(self) -> None:
        """
        `to_dict` gives what `--json` prints.
        """
        registry = Registry()
        info = plugin_info(plugin_row(plugin(registry, "a", alive=True), registry))

        assert json.loads(json.dumps(info.to_dict()))["capabilities"] == ["Custom(a)"]


class TestLoadResult:
    @pytest.mark.parametrize(("state", "ok"), [("ready", True), ("blocked", False)])
    def test_only_ready_is_ok(self, state: str, *, ok: bool) -> None:
        """
        A plugin is usable when it is ready, and not otherwise.
        """
        row = {"path": "/p", "id": "a", "state": state, "reason": "", "traceback": ""}

        assert load_result(row) == LoadResult(**row)
        assert load_result(row).ok is ok


class TestSandbox:
    @pytest.mark.parametrize(
        ("asked", "missing", "words"),
        [
            ("standard", {}, "standard"),
            ("strict", {}, "strict"),
            ("standard", {"landlock": "old kernel"}, "standard, degraded: no landlock"),
            ("off", {"landlock": "old kernel"}, "NOT SANDBOXED"),
        ],
    )
    def test_what_is_in_force_is_said(
        self, asked: str, missing: dict[str, str], words: str
    ) -> None:
        """
        Nobody has to guess whether a plugin is confined.
        """
        assert sandbox_words(asked, node(**missing)) == words

    def test_before_there_is_a_node_nothing_is_known_to_be_missing(self) -> None:
        """
        A daemon without a node says what was asked for.
        """
        assert sandbox_words("standard", None) == "standard"
        assert sandbox_row(asking("standard"), None)["missing"] == []

    def test_what_is_missing_is_named(self) -> None:
        """
        The status names each layer that the machine lacks, and why.
        """
        row = sandbox_row(asking("standard"), node(seccomp="not built", landlock="old kernel"))

        assert row["degraded"] == ["landlock", "seccomp"]
        assert row["missing"] == ["landlock: old kernel", "seccomp: not built"]

    @pytest.mark.parametrize(
        ("asked", "missing", "fate"),
        [
            ("standard", (), IMPOSSIBLE),
            ("standard", ("landlock",), IMPOSSIBLE),
            ("standard", ("seccomp",), ENDED),
            ("standard", ("no-new-privs",), ENDED),
            ("off", (), ENDED),
        ],
    )
    def test_what_becomes_of_grandchildren_is_said(
        self, asked: str, missing: tuple[str, ...], fate: str
    ) -> None:
        """
        The filter forbids them; where it is missing, or off, the node ends them.
        """
        there = node(**dict.fromkeys(missing, "old kernel"))

        assert sandbox_row(asking(asked), there)["grandchildren"] == fate

    @pytest.mark.parametrize(
        ("asked", "there", "hindrance"),
        [
            (asking("standard"), node(), ""),
            (asking("standard"), node(landlock="old"), "layers are missing: landlock: old"),
            (asking("standard", best_effort=True), node(landlock="old"), ""),
            (asking("standard"), node(sandbox="off"), "standard was asked for"),
            (asking("strict"), node(), "strict was asked for"),
            (asking("off"), node(), "off was asked for"),
            (asking("off"), node(sandbox="off"), ""),
        ],
        ids=repr,
    )
    def test_less_than_was_asked_for_hinders(
        self, asked: DaemonConfig, there: NodeDetails, hindrance: str
    ) -> None:
        """
        A node that confines otherwise, or lacks a layer that is required, cannot serve.
        """
        found = sandbox_hindrance(asked, there)

        assert found.startswith(hindrance)
        assert bool(found) == bool(hindrance)


class TestStatus:
    def test_plugins_are_counted_by_state(self) -> None:
        """
        The status of a daemon is in plain values, before and after its node is there.
        """
        registry = Registry()
        plugin(registry, "a", alive=True)
        plugin(registry, "b", alive=False)
        config = asking("standard")
        row = status_row(config, registry, node(), time.monotonic(), ["disk full"])

        assert row["plugins"] == {"ready": 1, "declared": 1}
        assert (row["node_pid"], row["alarms"], row["logs"]) == (7, ["disk full"], "/r/logs")
        assert (row["audit"], row["refusals"]) == ("/r/audit.jsonl", "/r/refusals.jsonl")
        assert status_row(config, registry, None, 0.0, [])["node_pid"] is None
