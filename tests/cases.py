"""Names of parametrized cases: the same in every process, so that several can share the tests."""

import re


def named(value: object) -> str:
    """Give a case's value as its name, without the place in memory that some values tell."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
