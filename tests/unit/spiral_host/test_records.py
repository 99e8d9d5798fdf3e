import json
from dataclasses import FrozenInstanceError

import pytest

from spiral_host.records import LoadResult, PluginInfo, ServiceInfo, load_result, plugin_info
from spiral_host.views import plugin_row
from tests.unit.spiral_host.fakes import House, manifest


@pytest.fixture
def info(house: House) -> PluginInfo:
    """A ready plugin as an application is told of it."""
    house.add_ready(manifest("base", capabilities=("Operators",)))
    return plugin_info(plugin_row(house.plugin("base"), house.registry))


class TestPluginInfo:
    def test_it_is_built_from_what_the_daemon_says(self, info: PluginInfo) -> None:
        """
        Every field has its place in the daemon's row; lists become what cannot be changed.
        """
        assert (info.id, info.state, info.capabilities) == ("base", "ready", ("Operators",))
        assert (info.services, info.sandbox) == ((), ("landlock", "seccomp"))

    def test_it_is_fit_for_json(self, info: PluginInfo) -> None:
        """
        What a script prints and reads again is the same.
        """
        plain = info.to_dict()

        assert json.loads(json.dumps(plain)) == {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in plain.items()
        }

    def test_a_newer_daemon_may_say_more(self, house: House) -> None:
        """
        Words that this application does not know are left out.
        """
        house.add(manifest("base"))
        row = {**plugin_row(house.plugin("base"), house.registry), "mood": "good"}

        assert not hasattr(plugin_info(row), "mood")

    def test_it_is_of_one_moment(self, info: PluginInfo) -> None:
        """
        Nobody changes a record; ask again instead.
        """
        with pytest.raises(FrozenInstanceError):
            info.state = "stopped"  # type: ignore[misc]


class TestLoadResult:
    @pytest.mark.parametrize(
        ("state", "ok"), [("ready", True), ("quarantined", False), ("refused", False)]
    )
    def test_only_a_ready_plugin_is_ok(self, state: str, *, ok: bool) -> None:
        """
        What was found but cannot be used is no success.
        """
        row = {"path": "/p", "id": None, "state": state, "reason": "", "traceback": ""}

        assert load_result(row).ok is ok

    def test_it_can_be_compared(self) -> None:
        """
        Two records that say the same are the same.
        """
        row = {"path": "/p", "id": "a", "state": "ready", "reason": "", "traceback": ""}

        assert load_result(row) == LoadResult(
            path="/p", id="a", state="ready", reason="", traceback=""
        )
        service = ServiceInfo(name="s", plugin_id="a", methods=("add",))
        assert service == ServiceInfo(name="s", plugin_id="a", methods=("add",))
