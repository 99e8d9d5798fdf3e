"""The lifecycle is drawn from its table, and the documentation shows that drawing."""

from pathlib import Path

from spiral_host.diagram import BEGIN, END, draw, page_part
from spiral_host.lifecycle import Exited, RestartAsked, State, StopAsked

DESIGN = Path(__file__).parents[3] / "docs" / "design.md"


def test_events_between_the_same_states_share_an_arrow() -> None:
    """Two events that lead the same way are drawn as one arrow with two names."""
    drawing = draw(
        {
            (State.READY, StopAsked): (State.DRAINING,),
            (State.READY, RestartAsked): (State.DRAINING,),
            (State.DRAINING, Exited): (State.STOPPED, State.DECLARED),
        }
    )
    assert drawing.splitlines() == [
        "stateDiagram-v2",
        "    [*] --> declared",
        "    ready --> draining: StopAsked, RestartAsked",
        "    draining --> stopped: Exited",
        "    draining --> declared: Exited",
    ]


def test_the_documentation_shows_the_drawing() -> None:
    """docs/design.md holds what `python -m spiral_host.diagram` prints; put it there when not."""
    text = DESIGN.read_text(encoding="utf-8")
    shown = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert shown == page_part().rstrip("\n")
