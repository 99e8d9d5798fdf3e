import sys
from dataclasses import replace
from pathlib import Path

import pytest

from plugin_worker.sandbox.confinement import Confinement
from plugin_worker.sandbox.errors import ConfinementError
from plugin_worker.sandbox.permitted import Machine, identify, permit
from plugin_worker.sandbox.policy import LAYER_NAMES
from protocol.permissions import NOTHING, Permissions

STANDARD = tuple(name for name in LAYER_NAMES if name != "namespaces")
PLAIN = Confinement(read=("/own",), write=("/data",), tmp="/tmp/1", node_pid=7, layers=STANDARD)
FREE = replace(PLAIN, layers=())
MODERN = Machine(landlock_abi=7, gpu=((), ()), has_cgroup=True)


class TestGiven:
    def test_nothing_is_added_without_permissions(self) -> None:
        """
        A plugin that asks for nothing is confined as ever.
        """
        assert permit(PLAIN, NOTHING, MODERN) == PLAIN

    def test_each_becomes_a_field_of_its_own(self) -> None:
        """
        What was granted stays apart from what every worker has: it is opened in another way.
        """
        everything = Permissions(
            read=("/a",), write=("/b",), network=(443,), subprocess=True, gpu=True
        )
        machine = replace(MODERN, gpu=(("/dev/kfd",), ("/sys/class/kfd",)))
        given = permit(PLAIN, everything, machine)
        assert (given.granted_read, given.granted_write) == (("/a",), ("/b",))
        assert (given.ports, given.subprocess) == ((443,), True)
        assert given.devices == ("/dev/kfd",)
        assert given.read == ("/own", "/sys/class/kfd")


class TestRefused:
    @pytest.mark.parametrize("path", ["/usr/local/share", "/usr", sys.base_prefix])
    def test_programs_that_it_could_write(self, path: str) -> None:
        """
        What it may start it may not change; each of the two can be given alone.
        """
        both = Permissions(write=(path,), subprocess=True)
        with pytest.raises(ConfinementError, match="revoke one of the two") as caught:
            permit(PLAIN, both, MODERN)
        assert caught.value.layer == "write"
        assert permit(PLAIN, replace(both, subprocess=False), MODERN).granted_write == (path,)
        assert permit(PLAIN, replace(both, write=("/srv/usr",)), MODERN).subprocess

    @pytest.mark.parametrize(
        ("permissions", "machine", "why"),
        [
            (Permissions(network=(1,)), replace(MODERN, landlock_abi=3), "Linux >= 6.7"),
            (Permissions(subprocess=True), replace(MODERN, has_cgroup=False), "--sandbox strict"),
            (Permissions(subprocess=True), replace(MODERN, landlock_abi=5), "--sandbox strict"),
            (Permissions(gpu=True), MODERN, "/dev/kfd"),
        ],
    )
    def test_what_this_machine_cannot_hold(
        self, permissions: Permissions, machine: Machine, why: str
    ) -> None:
        """
        The plugin is told which permission it cannot have here, and the operator what to do.
        """
        with pytest.raises(ConfinementError) as caught:
            permit(PLAIN, permissions, machine)
        (word,) = permissions.to_wire()
        assert caught.value.layer == word
        assert why in str(caught.value)
        assert "revoke" in str(caught.value)

    def test_a_layer_that_is_not_there_refuses_nothing(self) -> None:
        """
        With `off` a plugin can do what its user can; a permission then takes nothing from it.
        """
        old = Machine(landlock_abi=0, gpu=((), ()))
        wanted = Permissions(network=(443,), subprocess=True)
        assert permit(FREE, wanted, old).subprocess
        assert not identify(replace(FREE, granted_read=("/nowhere",))).identities


class TestPaths:
    @pytest.mark.parametrize("permission", ["read", "write"])
    def test_a_path_that_is_not_there_is_named(self, permission: str) -> None:
        """
        With its permission, before a process is made for it.
        """
        with pytest.raises(ConfinementError, match=f"{permission}: /nowhere: it does not exist"):
            identify(
                replace(PLAIN, **{f"granted_{permission}": ("/nowhere",)})  # type: ignore[arg-type]
            )

    def test_what_is_there_is_told_apart(self, tmp_path: Path) -> None:
        """
        Two folders never pass for each other, and one is itself by whatever path.
        """
        one, other = tmp_path / "one", tmp_path / "other"
        one.mkdir()
        other.mkdir()
        granted = replace(PLAIN, granted_read=(str(one),), granted_write=(str(other),))
        found = identify(granted).identities
        assert set(found) == {str(one), str(other)}
        assert found[str(one)] != found[str(other)]
        assert identify(granted).identities == found
