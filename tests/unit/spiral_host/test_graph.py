import pytest

from protocol.plugin import PluginMetadata
from spiral_host.graph import cycle_through, dependents, free_of_circles, problem


def plugins(**dependencies: dict[str, str]) -> dict[str, PluginMetadata]:
    """Plugins in version 1.0.0, by id, with what they depend on."""
    return {
        name: PluginMetadata(name, "1.0.0", dependencies=wanted)
        for name, wanted in dependencies.items()
    }


class TestProblem:
    @pytest.mark.parametrize(
        ("requirement", "trouble"),
        [
            (">=1.0.0", ""),
            ("^2", "needs b ^2, but 1.0.0 is there"),
            ("soon", "dependency b: 'soon' is no version requirement"),
            ("^1..2", "no version requirement"),
        ],
    )
    def test_a_dependency_has_to_fit(self, requirement: str, trouble: str) -> None:
        """
        A dependency in a version that does not fit, or cannot be read, is told in one line.
        """
        known = plugins(a={"b": requirement}, b={})

        found = problem(known["a"], known)

        assert trouble in found
        assert bool(found) == bool(trouble)

    def test_a_dependency_has_to_be_there(self) -> None:
        """
        A plugin that is not installed is named, with what to do.
        """
        known = plugins(a={"b": "*"})

        assert problem(known["a"], known) == (
            "depends on b *, which is not there; load b first or together with it"
        )

    @pytest.mark.parametrize(
        ("dependencies", "way"),
        [
            ({"a": {"a": "*"}}, "a -> a"),
            ({"a": {"b": "*"}, "b": {"a": "*"}}, "a -> b -> a"),
            (
                {"a": {"c": "*", "b": "*"}, "b": {"c": "*"}, "c": {"d": "*"}, "d": {"a": "*"}},
                "d -> a",
            ),
        ],
        ids=["self", "pair", "long"],
    )
    def test_a_cycle_is_shown(self, dependencies: dict[str, dict[str, str]], way: str) -> None:
        """
        Plugins that wait for each other are told which dependencies go round.
        """
        known = plugins(**dependencies)

        assert way in problem(known["a"], known)

    def test_a_way_is_a_way(self) -> None:
        """
        Each step of a cycle is a dependency of the one before.
        """
        known = plugins(a={"b": "*", "x": "*"}, b={"c": "*"}, c={"a": "*"}, x={"b": "*"})
        way = cycle_through("a", known)

        assert (way[0], way[-1]) == ("a", "a")
        assert all(after in known[before].dependencies for before, after in zip(way, way[1:]))  # noqa: B905, RUF007

    def test_depending_on_a_cycle_is_no_cycle(self) -> None:
        """
        A plugin outside a cycle is not said to depend on itself.
        """
        known = plugins(a={"b": "*"}, b={"c": "*"}, c={"b": "*"}, d={"b": "*", "a": "*"})

        assert cycle_through("a", known) == []
        assert cycle_through("unknown", known) == []
        assert problem(known["d"], known) == ""


class TestDependents:
    def test_who_depends_directly_is_named_in_order(self) -> None:
        """
        Only direct dependents count, in the order they were given.
        """
        known = plugins(c={"b": "*"}, b={"a": "*"}, d={"a": "*"}, a={})

        assert dependents("a", known.values()) == ["b", "d"]


class TestFreeOfCircles:
    def test_who_cannot_reach_a_circle_is_free(self) -> None:
        """
        Those on a circle and those that depend on it are looked at one by one; nobody else is.
        """
        known = plugins(a={"b": "*"}, b={"a": "*"}, c={"a": "*"}, d={}, e={"d": "*", "ghost": "*"})

        assert free_of_circles(known) == {"d", "e"}
        assert free_of_circles({}) == set()
