"""Read which failures an operator wants at which points. Does nothing about them.

said      [KIND[:PLUGIN]/]NAME=TERM[->TERM ...]    several stand between semicolons
TERM      [COUNT*]ACTION                           so many passages; without a count, all others
ACTION    off | kill | stop | error | delay(MS)    what the process does to itself
"""

from itertools import count
from typing import Final

from protocol.errors import UsageError
from protocol.failpoints import FAIL, POINTS, SPEC

_KINDS: Final = ("daemon", "node", "zygote", "worker", "client")
_ACTIONS: Final = ("off", "kill", "stop", "error", "delay")

_Term = tuple[float, str, int]
"""For how many passages, the action, and its milliseconds."""


class Failure:
    """What is to happen at one point, in one kind of process or in all."""

    def __init__(self, scope: str, name: str, terms: list[_Term]) -> None:
        self.name = name
        self._scope = scope
        self._terms = terms
        self._passages = count(1)

    def is_for(self, who: str) -> bool:
        """Say whether a process is meant: `node`, `worker:PLUGIN`."""
        return self._scope in {"", who, who.partition(":")[0]}

    def count(self) -> int:
        """Count one passage more; give its number. Any thread may."""
        return next(self._passages)

    def count_among(self, passed: str) -> int:
        """Count those in what all processes together have passed: `passed WHO/NAME ...` lines."""
        words = (line.split() for line in passed.splitlines())
        ways = (word[1].rpartition("/") for word in words if word[0] == "passed")
        return sum(name == self.name and self.is_for(who) for who, _, name in ways)

    def action(self, number: int) -> tuple[str, int]:
        """Give what happens at the passage of this number."""
        for passages, action, milliseconds in self._terms:
            if number <= passages:
                return action, milliseconds
            number -= int(passages)
        return "off", 0


def parse(text: str) -> list[Failure]:
    """Read what is asked for.

    Raises:
        UsageError: It cannot be meant; the text names the entry, counted from 1.
    """
    failures = []
    for number, said in enumerate(map(str.strip, text.split(";")), 1):
        try:
            if said:
                failures.append(_failure(said))
        except ValueError as error:
            raise UsageError(f"{SPEC}, entry {number}, {ascii(said)[:80]}: {error}") from None
    return failures


def _failure(text: str) -> Failure:
    where, equals, terms = (part.strip() for part in text.partition("="))
    scope, _, name = where.rpartition("/")
    if not equals:
        raise ValueError("say NAME=ACTION")
    if name not in POINTS:
        raise ValueError(f"no point is called {name!a}; protocol/failpoints.py lists them")
    if scope:
        _check_scope(scope, name)
    read = [_term(term.strip()) for term in terms.split("->")]
    if name not in FAIL and any(action == "error" for _, action, _ in read):
        raise ValueError(f"nothing can fail by itself at {name}: say off, kill, stop or delay(MS)")
    return Failure(scope, name, read)


def _check_scope(scope: str, name: str) -> None:
    kind, colon, plugin = scope.partition(":")
    if kind not in _KINDS:
        raise ValueError(f"no process is called {kind!a}; say {', '.join(_KINDS)}")
    if kind not in POINTS[name][0].split():
        raise ValueError(f"a {kind} does not pass {name}; this does: {POINTS[name][0]}")
    if colon and not (plugin and kind == "worker"):
        raise ValueError(f"{scope!a} names no plugin's worker")


def _term(text: str) -> _Term:
    passages, times, said = (part.strip() for part in text.rpartition("*"))
    action, bracket, rest = said.partition("(")
    milliseconds, end = rest[:-1], rest[-1:]
    if times and not _is_number(passages):
        raise ValueError(f"{passages!a} is no count")
    if action not in _ACTIONS or bool(bracket) != (action == "delay"):
        raise ValueError(f"{said!a} is no action; say {', '.join(_ACTIONS)}(MS)")
    if bracket and not (end == ")" and _is_number(milliseconds)):
        raise ValueError(f"{said!a} takes whole milliseconds, as in delay(50)")
    return float(passages) if times else float("inf"), action, int(milliseconds or 0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 7
