from dataclasses import replace

import pytest

from protocol.errors import UsageError
from protocol.limits import Limits
from protocol.permissions import EVERYONE, NOTHING, Permissions
from protocol.plugin import PluginMetadata
from spiral_host.consent import (
    MAX_NAMED,
    MAX_WORD,
    Asked,
    Consent,
    Grant,
    decide,
    digest,
    few,
    objection,
    proposed,
)
from tests.unit.spiral_host.parts import manifest

WEB = Permissions(network=(80, 443))
MORE = Permissions(network=(80, 443), gpu=True)


def asked(permissions: Permissions | None, manifest: str = "m1", *refused: str) -> Asked:
    return Asked(permissions=permissions, manifest=manifest, refused=refused)


def grant(permissions: Permissions, manifest: str = "m1") -> Grant:
    return Grant(permissions=permissions, manifest=manifest, version="1.0.0", when="today")


def of(consent: Consent) -> tuple[bool, Permissions, Permissions]:
    """Whether it may start, with what, and what it lacks."""
    return consent.is_given, consent.in_force, consent.lacking


class TestDecide:
    def test_a_manifest_that_says_nothing_gets_what_everyone_gets(self) -> None:
        """
        Whatever that is, it may start.
        """
        assert of(decide(asked(None), EVERYONE, None)) == (True, EVERYONE, NOTHING)
        assert of(decide(asked(None), NOTHING, None)) == (True, NOTHING, NOTHING)

    def test_one_that_says_so_gets_less_than_everyone(self) -> None:
        """
        What its table leaves out is not in force, though everyone is granted it.
        """
        only = Permissions(services=("math",))
        assert of(decide(asked(only), EVERYONE, None)) == (True, only, NOTHING)
        assert of(decide(asked(NOTHING), EVERYONE, None)) == (True, NOTHING, NOTHING)

    def test_without_a_grant_it_does_not_start(self) -> None:
        """
        What is lacking is what everyone is not granted.
        """
        wanted = replace(WEB, services=("math",))
        given, _, lacking = of(decide(asked(wanted), EVERYONE, None))
        assert (given, lacking) == (False, WEB)

    def test_with_a_grant_it_does(self) -> None:
        """
        What it asks for is in force, whatever else was granted.
        """
        assert of(decide(asked(WEB), EVERYONE, grant(WEB))) == (True, WEB, NOTHING)
        assert of(decide(asked(WEB), EVERYONE, grant(MORE))) == (True, WEB, NOTHING)

    def test_less_that_was_granted_to_this_manifest_is_enough(self) -> None:
        """
        The operator has seen exactly that and granted a part: it runs with it.
        """
        part = Permissions(network=(443,))
        found = decide(asked(WEB), EVERYONE, grant(part))
        assert of(found) == (True, part, NOTHING)
        assert not found.is_changed

    def test_less_that_was_granted_to_another_manifest_is_not(self) -> None:
        """
        Of the new one nobody has said that it may run with less.
        """
        part = Permissions(network=(443,))
        found = decide(asked(WEB, "m2"), EVERYONE, grant(part))
        assert of(found)[0] is False
        assert found.lacking == Permissions(network=(80,))

    @pytest.mark.parametrize("asks", [WEB, Permissions(network=(80,)), NOTHING])
    def test_another_manifest_that_asks_for_no_more_goes_on(self, asks: Permissions) -> None:
        """
        And it is known that it is another one.
        """
        found = decide(asked(asks, "m2"), EVERYONE, grant(WEB))
        assert of(found) == (True, asks, NOTHING)
        assert found.is_changed

    def test_another_one_that_asks_for_more_shows_the_difference(self) -> None:
        """
        It is blocked with what is new, and that alone.
        """
        found = decide(asked(MORE, "m2"), EVERYONE, grant(WEB))
        assert (found.is_given, found.is_changed) == (False, False)
        assert found.lacking == Permissions(gpu=True)

    def test_what_no_plugin_gets_keeps_it_from_starting(self) -> None:
        """
        Granted or not.
        """
        found = decide(asked(WEB, "m1", "read /proc: no"), EVERYONE, grant(WEB))
        assert not found.is_given


class TestObjection:
    def test_one_that_may_start_has_none(self) -> None:
        assert not objection("p", decide(asked(WEB), EVERYONE, grant(WEB)))

    def test_it_names_what_is_lacking_and_both_commands(self) -> None:
        """
        So that an operator can act on that line.
        """
        assert objection("p", decide(asked(MORE), EVERYONE, None)) == (
            "asks for gpu, network 80, network 443; "
            "spiral-host permissions p shows it, spiral-host grant p allows it"
        )

    def test_more_than_was_granted_names_the_version_and_the_difference(self) -> None:
        text = objection("p", decide(asked(MORE, "m2"), EVERYONE, grant(WEB)))
        assert text.startswith("asks for more than was granted to version 1.0.0: gpu; ")

    def test_what_no_plugin_gets_comes_first(self) -> None:
        """
        A grant would not help.
        """
        text = objection("p", decide(asked(MORE, "m1", "read /x: not there"), EVERYONE, None))
        assert text.startswith("asks for what no plugin gets: read /x: not there; ")
        assert "spiral-host restart p" in text

    def test_it_stays_one_line_of_bounded_length(self) -> None:
        """
        Whatever a manifest asks for; the rest is counted.
        """
        words = [f"read /{number:0>300}" for number in range(MAX_NAMED + 2)]
        line = few(words)
        assert line.endswith(", 2 more")
        assert len(line) < (MAX_NAMED + 1) * (MAX_WORD + 10)


class TestProposed:
    def test_it_is_all_that_is_asked_for(self) -> None:
        assert proposed("p", asked(MORE), None) == MORE

    def test_or_the_part_that_is_named(self) -> None:
        assert proposed("p", asked(MORE), WEB) == WEB
        assert proposed("p", asked(MORE), NOTHING) == NOTHING

    @pytest.mark.parametrize(
        ("asks", "given", "why"),
        [
            (asked(None), None, r"asks for nothing of its own; it gets what \[everyone\] gets"),
            (asked(WEB, "m1", "read /x: no"), None, "no plugin gets: read /x: no"),
            (asked(WEB), MORE, "does not ask for gpu; .* or less: network 80, network 443"),
            (asked(NOTHING), WEB, "or less: nothing"),
            (
                asked(Permissions(read=("/a/b",))),
                Permissions(read=("/a",)),
                "does not ask for read /a;",
            ),
        ],
    )
    def test_no_more_than_that_can_be_granted(
        self, asks: Asked, given: Permissions | None, why: str
    ) -> None:
        """
        A grant is never wider than what is asked for.
        """
        with pytest.raises(UsageError, match=why):
            proposed("p", asks, given)


class TestDigest:
    def test_it_is_the_same_for_the_same_manifest(self) -> None:
        """
        Wherever the plugin lies.
        """
        here, there = manifest("a"), manifest("a", path="/elsewhere")
        assert digest(here, None) == digest(there, None)

    @pytest.mark.parametrize(
        "changes",
        [
            {"metadata": PluginMetadata("a", "1.0.1")},
            {"events": ("X",)},
            {"concurrency": 2},
            {"reentrant": False},
            {"permissions": NOTHING},
            {"permissions": WEB},
            {"limits": Limits(threads=3)},
            {"sandbox": "strict"},
        ],
        ids=str,
    )
    def test_everything_that_is_declared_counts(self, changes: dict[str, object]) -> None:
        """
        Another version, wish or limit is another manifest.
        """
        changed = replace(manifest("a"), **changes)  # type: ignore[arg-type]
        assert digest(changed, None) != digest(manifest("a"), None)

    def test_so_does_where_its_paths_lead(self) -> None:
        """
        A link that was turned round makes it another one, too.
        """
        one = replace(manifest("a"), permissions=Permissions(read=("/link",)))
        there = digest(one, Permissions(read=("/one",)))
        assert there != digest(one, Permissions(read=("/two",)))
