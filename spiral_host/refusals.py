"""Remember what was refused to each plugin last, for whoever asks. No I/O, no clock."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

KEPT: Final = 16
"""Different refusals of one plugin; of more the one longest ago is forgotten."""

MAX_PLUGINS: Final = 1024
"""Whose refusals are kept; of more the plugin that was longest refused nothing is forgotten."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that was refused to a plugin.

    Attributes:
        permission: The word of `[permissions]` that it would have needed.
        what: The path, the port, the name; a plugin may have chosen it, and `Tally` has cut it.
        count: How often.
        last: When it was so the last time, on the monotonic clock.
    """

    permission: str
    what: str
    count: int
    last: float

    def to_row(self, now: float) -> dict[str, object]:
        """Give plain values, with how long ago it was, in seconds."""
        ago_s = max(0.0, now - self.last)
        return {
            "permission": self.permission,
            "what": self.what,
            "count": self.count,
            "ago_s": ago_s,
        }


class Refusals:
    """What was refused to every plugin; lives as long as the daemon."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, OrderedDict[tuple[str, str], Refusal]] = OrderedDict()

    def note(self, plugin_id: str, permission: str, what: str, now: float, count: int = 1) -> None:
        """Remember that something was refused, so many times.

        Args:
            now: On the monotonic clock.
        """
        key = permission, what
        mine = self._of.setdefault(plugin_id, OrderedDict())
        before = mine[key].count if key in mine else 0
        mine[key] = Refusal(*key, before + count, now)
        mine.move_to_end(key)
        self._of.move_to_end(plugin_id)
        if len(mine) > KEPT:
            mine.popitem(last=False)
        if len(self._of) > MAX_PLUGINS:
            self._of.popitem(last=False)

    def of(self, plugin_id: str) -> list[Refusal]:
        """Give what was refused to a plugin, the last first."""
        return list(reversed(self._of.get(plugin_id, {}).values()))

    def forget(self, plugin_id: str) -> None:
        """Forget it: the plugin was granted more, say, and starts afresh."""
        self._of.pop(plugin_id, None)
