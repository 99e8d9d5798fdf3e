"""Version requirements as plugins write them, turned into `packaging`'s specifiers."""

import re
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from protocol.errors import UsageError
from protocol.names import shown

_PREFIX: Final = re.compile(r"\s*([\^~])\s*([0-9]+(?:\.[0-9]+)*)\.?\s*\Z")


def parse_requirement(text: str) -> SpecifierSet:
    """Read a requirement: `>=1.0`, `>=1.0,<3`, `==1.4`, `^2.0.0`, `~1.2`, `1.2.3` or `*`.

    `^` allows what keeps the leftmost number that is not zero, `~` what keeps the first two
    (`~1` keeps one), as in npm and Cargo. A bare version means exactly it.

    Raises:
        UsageError: It is none of these.
    """
    parts = [_one(part.strip()) for part in text.split(",")]
    try:
        return SpecifierSet(",".join(part for part in parts if part), prereleases=True)
    except InvalidSpecifier:
        message = (
            f"{shown(text)} is no version requirement; write '>=1.0.0', '^2.0.0', '~1.2' or '*'"
        )
        raise UsageError(message) from None


def parse_version(text: str) -> Version:
    """Read a version.

    Raises:
        UsageError: It is none.
    """
    try:
        return Version(text)
    except InvalidVersion:
        raise UsageError(f"{shown(text)} is no version; write one such as '1.0.0'") from None


def _one(part: str) -> str:
    if part in {"", "*"}:
        return ""
    match = _PREFIX.match(part)
    if match is None:
        exact = part[0].isdigit()
        return f"=={part}" if exact else re.sub(r"^=(?!=)", "==", part)
    numbers = [int(number) for number in match[2].split(".")]
    keep = _kept_by_caret(numbers) if match[1] == "^" else min(2, len(numbers))
    ceiling = [*numbers[: keep - 1], numbers[keep - 1] + 1]
    low, high = (".".join(map(str, version)) for version in (numbers, ceiling))
    return f">={low},<{high}"


def _kept_by_caret(numbers: list[int]) -> int:
    leading = next((place for place, number in enumerate(numbers) if number), len(numbers) - 1)
    return leading + 1
