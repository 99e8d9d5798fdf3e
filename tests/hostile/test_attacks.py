"""Every attack of the table gets what the table says, under every profile, and harms nobody.

Each is tried for real, by a plugin of a real host. Unconfined, those that do no lasting harm are
tried as well: an attack that fails there, too, would prove nothing about the confinement.
"""

import pytest

from tests.hostile.house import GROWTH, House
from tests.hostile.table import Case, is_as_expected, read_table


@pytest.mark.parametrize("case", read_table(), ids=lambda case: str(case.id))
def test_an_attack(house: House, profile: str, case: Case) -> None:
    """
    It gets no more than it may; decoys, host and other plugins are as they were.
    """
    expected = case.expected[profile]
    if not expected:
        return  # unconfined it would do harm: the table's own tests count how many these are
    outcome = house.attack(case, profile)
    assert is_as_expected(outcome, expected), f"{case.does}: {outcome}, expected {expected}"


def test_the_host_has_not_grown(house: House, profile: str) -> None:
    """
    After all of it daemon and node have about the memory that they had before.
    """
    assert max(house.grown().values()) < GROWTH


def test_every_attack_is_in_the_table(house: House) -> None:
    """
    And every line of the table has its attack: no name is misspelt into a refusal.
    """
    named = {case.id for case in read_table()}
    groups = {case.group for case in read_table()}
    assert {name for group in groups for name in house.names(group)} == named
