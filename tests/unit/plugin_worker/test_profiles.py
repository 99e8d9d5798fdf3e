from plugin_worker.node.profiles import NAMESPACES, Profiles
from plugin_worker.sandbox.policy import LAYER_NAMES, STANDARD


class TestProfiles:
    def test_each_is_what_it_is_on_a_machine_that_has_it_all(self) -> None:
        """`strict` is `standard` and namespaces."""
        profiles = Profiles({}, best_effort=False)
        assert profiles.layers("off") == ()
        assert profiles.layers("standard") == STANDARD
        assert profiles.layers("strict") == LAYER_NAMES == (NAMESPACES, *STANDARD)

    def test_what_the_machine_lacks_is_left_out(self) -> None:
        """Whoever only makes an effort gets the rest."""
        profiles = Profiles({"landlock": "old", NAMESPACES: "none"}, best_effort=True)
        assert "landlock" not in profiles.layers("standard")
        assert profiles.layers("strict") == profiles.layers("standard")

    def test_two_layers_need_a_third(self) -> None:
        """The kernel takes neither of them from a process that may still gain privileges."""
        layers = Profiles({"no-new-privs": "none"}, best_effort=True).layers("standard")
        assert not {"landlock", "seccomp", "no-new-privs"} & set(layers)
        assert "rlimits" in layers

    def test_namespaces_that_fail_are_done_without_only_on_best_effort(self) -> None:
        """Enforced, the plugin is refused, and the next one tries again."""
        enforced = Profiles({}, best_effort=False)
        assert enforced.are_namespaces_in_doubt
        assert not enforced.does_without("bwrap is not on the PATH")
        assert enforced.layers("strict") == LAYER_NAMES
        effort = Profiles({}, best_effort=True)
        assert effort.are_namespaces_in_doubt
        assert effort.does_without("bwrap is not on the PATH")
        assert effort.layers("strict") == STANDARD

    def test_where_one_has_had_them_another_is_not_started_without(self) -> None:
        """Then it is its own start that failed, and not this machine."""
        profiles = Profiles({}, best_effort=True)
        profiles.namespaces_held()
        assert not profiles.are_namespaces_in_doubt
        assert not profiles.does_without("it was not ready within 30 s")
        assert profiles.layers("strict") == LAYER_NAMES

    def test_where_a_trial_has_had_them_nobody_starts_without(self) -> None:
        """One plugin's failure is no word on the machine; it is not tried again."""
        profiles = Profiles({}, best_effort=True)
        assert not profiles.does_without("")
        assert not profiles.are_namespaces_in_doubt
        assert not profiles.does_without("it was not ready within 30 s")
        assert profiles.layers("strict") == LAYER_NAMES
