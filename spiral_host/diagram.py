"""Draw the lifecycle from its table, as a Mermaid state diagram. Reads and writes no file.

    python -m spiral_host.diagram

An event with several arrows goes where the crash budget and the restart policy send it.
"""

import sys
from collections.abc import Mapping
from typing import Final

from spiral_host.lifecycle import TRANSITIONS, Event, State

BEGIN: Final = "<!-- lifecycle: python -m spiral_host.diagram -->"
END: Final = "<!-- lifecycle ends -->"
"""Between these lines docs/design.md keeps a copy of the drawing."""


def draw(transitions: Mapping[tuple[State, type[Event]], tuple[State, ...]]) -> str:
    """Give the diagram's text: one arrow for each pair of states, with all events that take it."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (before, event), ways in transitions.items():
        for after in ways:
            arrows.setdefault((before, after), []).append(event.__name__)
    lines = [
        f"    {before.value} --> {after.value}: {', '.join(events)}"
        for (before, after), events in arrows.items()
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.DECLARED.value}", *lines, ""])


def page_part() -> str:
    """Give the drawing as docs/design.md holds it, from its first marker to its last."""
    return f"{BEGIN}\n```mermaid\n{draw(TRANSITIONS)}```\n{END}\n"


if __name__ == "__main__":
    sys.stdout.write(page_part())
