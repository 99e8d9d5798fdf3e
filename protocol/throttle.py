"""Decide whether a lost call is made again: not when most of the callee's calls are lost.

The retry throttle of gRPC (proposal A6): a bucket of tokens, one out for every lost call, a tenth
back for every other; nothing is made again while half of them are gone. So a callee that always
dies costs at most five calls more than it was asked for, until it answers again.
"""

from typing import Final

ATTEMPTS: Final = 3
"""Of one call, the first among them; gRPC allows up to 5, and a third answer is rarely better."""

_TOKENS: Final = 10.0
_BACK: Final = 0.1
_BASE_S: Final = 0.1
_LONGEST_S: Final = 1.0


class Throttle:
    """The tokens of one service; lives as long as the stubs of its process."""

    def __init__(self) -> None:
        self._tokens = _TOKENS

    def answered(self) -> None:
        """Note a call that had an outcome."""
        self._tokens = min(_TOKENS, self._tokens + _BACK)

    def lost(self) -> None:
        """Note a call whose callee died."""
        self._tokens = max(0.0, self._tokens - 1.0)

    def allows(self, attempts: int) -> bool:
        """Say whether a call that was lost so many times may be made again."""
        return attempts < ATTEMPTS and self._tokens > _TOKENS / 2


def delay_s(attempts: int, chance: float) -> float:
    """Say how long to wait before the next attempt, seconds.

    Args:
        attempts: How many there were.
        chance: Uniform in [0, 1): all of the delay is jitter, so that callers do not come at once.
    """
    return chance * min(_BASE_S * 2.0 ** (attempts - 1), _LONGEST_S)
