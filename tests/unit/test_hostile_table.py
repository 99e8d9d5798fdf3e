"""The table of attacks can be meant, and docs/security.md says of it only what is so."""

import re
from collections import Counter
from pathlib import Path

from tests.hostile.table import PROFILES, WORDS, is_as_expected, read_table

CASES = read_table()
SECTION = "## How each claim is tried"
TEXT = (Path(__file__).parents[2] / "docs" / "security.md").read_text().split(SECTION)[1]
TEXT = TEXT.partition("\n## ")[0]


def test_the_number_of_attacks_in_each_group() -> None:
    """
    And how many of them are tried unconfined, too.
    """
    said = re.findall(r"^\| ([a-z]+) \| .+ \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    counted = Counter(case.group for case in CASES)
    unconfined = Counter(case.group for case in CASES if case.expected["off"])
    there = [(group, str(counted[group]), str(unconfined[group])) for group in counted]
    assert said == there


def test_what_gets_through_is_listed() -> None:
    """
    Under `standard` exactly what is listed there, under `strict` nothing.
    """
    said = re.findall(r"^- `([a-z-]+)`: (.+)\.", TEXT, re.MULTILINE)
    assert said == [(case.id, case.does) for case in CASES if case.gets_through("standard")]
    assert not [case.id for case in CASES if case.gets_through("strict")]


def test_every_expectation_has_a_known_word() -> None:
    """
    A misspelt one would be met by nothing, one that is empty by everything.
    """
    for case in CASES:
        for profile in PROFILES:
            wanted = case.expected[profile]
            assert wanted or profile == "off", case.id
            assert {one.split()[0] for one in wanted.split(" or ") if one} <= WORDS, case.id


def test_no_two_attacks_have_one_name() -> None:
    """
    Whoever reads of one can find it.
    """
    assert len({case.id for case in CASES}) == len(CASES)


def test_an_outcome_has_to_be_what_was_expected() -> None:
    """
    The word, and of its reasons no other than those that are named.
    """
    assert is_as_expected("got 37 bytes", "got")
    assert is_as_expected("refused EPERM", "refused EACCES EPERM")
    assert is_as_expected("refused UsageError: no such name", "refused UsageError")
    assert is_as_expected("died SIGKILL (protocol violation)", "got or died SIGKILL")
    assert is_as_expected("ended", "ended")
    assert not is_as_expected("got away with harm: the victim died", "nothing")
    assert not is_as_expected("refused ENOENT EPERM", "refused EPERM")
    assert not is_as_expected("refused", "refused EPERM or refused")
    assert not is_as_expected("died SIGSEGV", "died SIGKILL")
