"""The table of attacks, read: what each does, and what it may get under which profile.

An expectation is an outcome's word and, where only some are meant, its reasons; `or` stands between
two. An empty one is not tried: unconfined it would do real harm.

    got                     whatever it was after
    refused EACCES EPERM    with these errors and no others, one of them or both
    died SIGSYS             its process ended so, of itself or by the host's rule
    ended                   it hung until the host ended it
    nothing                 let through, and seen from outside to have changed nothing
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROFILES: Final = ("off", "standard", "strict")
PATH: Final = Path(__file__).parent / "expected.toml"
WORDS: Final = frozenset({"got", "refused", "died", "ended", "nothing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack.

    Attributes:
        group: What it attacks, and the name of the plugin that has it.
        id: Its name.
        does: What it does, one sentence.
        expected: Profile to expectation.
    """

    group: str
    id: str
    does: str
    expected: dict[str, str]

    def gets_through(self, profile: str) -> bool:
        """Say whether it may succeed under a profile."""
        return any(wanted.startswith("got") for wanted in self.expected[profile].split(" or "))


def read_table(path: Path = PATH) -> tuple[Case, ...]:
    """Give every attack, in the table's order."""
    return tuple(_cases(tomllib.loads(path.read_text())))


def _cases(table: dict[str, dict[str, dict[str, str]]]) -> Iterator[Case]:
    for group, rows in table.items():
        for name, row in rows.items():
            standard = row["standard"]
            expected = {"off": row["off"], "standard": standard, "strict": standard}
            yield Case(
                group=group,
                id=name,
                does=row["does"],
                expected=expected | {key: row[key] for key in ("strict",) if key in row},
            )


def is_as_expected(outcome: str, expected: str) -> bool:
    """Say whether an outcome is one of those that were expected."""
    return any(_fits(outcome, wanted) for wanted in expected.split(" or "))


def _fits(outcome: str, wanted: str) -> bool:
    word, _, detail = outcome.partition(" ")
    wanted_word, _, reasons = wanted.partition(" ")
    if word != wanted_word:
        return False
    if word == "refused":
        said = set(detail.partition(":")[0].split())
        return bool(said) and (not reasons or said <= set(reasons.split()))
    return not reasons or detail == reasons or detail.startswith(f"{reasons} (")
