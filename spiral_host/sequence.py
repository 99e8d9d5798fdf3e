"""Draw events as a Mermaid sequence diagram: who published what, in which order. Prints nothing.

    sequenceDiagram
        participant bus
        participant p1 as trainer
        p1->>bus: EpochStart 1
        p1->>bus: TensorOp 1 to 120

Events of one type by one source that follow each other share a row. Whatever a publisher can have
chosen is spelled so that it stays text.
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from protocol.errors import UsageError
from protocol.events import EventGap, PluginEvent
from spiral_host.harmless import harmless_line

MAX_ROWS: Final = 200
"""More than anybody reads in one picture, and less than Mermaid takes (50,000 characters)."""

_SHOWN: Final = 60
"""Characters of a name; with 200 types or plugins of that length it still is a picture."""

_PLAIN: Final = frozenset(" ._-/,()")
"""Beside letters and digits, what Mermaid never takes for its own."""


@dataclass(slots=True)
class _Row:
    """Events of one type by one source, or a gap among them, by the first and the last number."""

    source: str
    event_type: str
    first: int
    last: int
    is_gap: bool


class SequenceDiagram:
    """Keeps what the last rows need. Safe to use from any thread.

    Args:
        maxlen: How many rows are drawn at most; of what came before them only a count is left.

    Raises:
        UsageError: `maxlen` is no positive number.
    """

    def __init__(self, maxlen: int = MAX_ROWS) -> None:
        if type(maxlen) is not int or maxlen < 1:
            raise UsageError(f"a diagram has at least one row; got maxlen={maxlen!r}")
        self._lock = threading.Lock()
        self._rows: deque[_Row] = deque(maxlen=maxlen)
        self._count = 0

    def __call__(self, event: PluginEvent) -> None:
        """Add an event, and forget the oldest row if there is no room."""
        new = _row_of(event)
        with self._lock:
            self._count += 1
            if self._rows and _follows(self._rows[-1], new):
                self._rows[-1].last = new.last
            else:
                self._rows.append(new)

    def draw(self) -> str:
        """Give the diagram's text."""
        with self._lock:
            rows = [(row.source, _label(row), row.is_gap) for row in self._rows]
            hidden = self._count - sum(
                1 if row.is_gap else row.last - row.first + 1 for row in self._rows
            )
        ids = {source: f"p{n}" for n, source in enumerate(dict.fromkeys(row[0] for row in rows), 1)}
        lines = ["sequenceDiagram", "    participant bus"]
        lines += [f"    participant {ids[name]} as {_text(name)}" for name in ids]
        if hidden > 0:
            lines.append(f"    Note over bus: {hidden} earlier events are not shown")
        for source, label, is_gap in rows:
            lines.append(f"    {ids[source]}-{'x' if is_gap else '>>'}bus: {label}")
        return "\n".join([*lines, ""])


def _row_of(event: PluginEvent) -> _Row:
    if isinstance(event, EventGap):
        return _Row(event.source, event.event_type, event.first, event.last, is_gap=True)
    return _Row(event.source, event.type, event.seq, event.seq, is_gap=False)


def _follows(row: _Row, new: _Row) -> bool:
    is_same = (row.source, row.event_type) == (new.source, new.event_type)
    return is_same and not row.is_gap and not new.is_gap and new.first == row.last + 1


def _label(row: _Row) -> str:
    numbers = f"{row.first} to {row.last}" if row.last != row.first else f"{row.first}"
    return f"{_text(row.event_type)} {numbers}{' missing' if row.is_gap else ''}"


def _text(name: str) -> str:
    """Spell whatever is no letter, digit or harmless sign as the entity that Mermaid knows."""
    line = harmless_line(name).strip() or "(no name)"
    cut = line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
    return "".join(c if c.isalnum() or c in _PLAIN else f"#{ord(c)};" for c in cut)
