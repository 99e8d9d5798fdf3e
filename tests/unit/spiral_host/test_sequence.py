"""The sequence diagram: what is drawn, and what a name must not do to it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.events import CustomEvent, PluginEvent
from spiral_host.sequence import SequenceDiagram


def event(source: str, event_type: str, seq: int) -> PluginEvent:
    made = CustomEvent(event_type, None)
    made.stamp = (source, seq, 0.0)
    return made


def gap(source: str, event_type: str, first: int, last: int) -> PluginEvent:
    made = PluginEvent.EventGap(event_type, first, last)
    made.stamp = (source, 0, 0.0)
    return made


def drawn(*events: PluginEvent, maxlen: int = 200) -> list[str]:
    """Give the lines of a drawing, without the two that open it."""
    diagram = SequenceDiagram(maxlen)
    for one in events:
        diagram(one)
    title, bus, *lines = diagram.draw().splitlines()
    assert (title, bus) == ("sequenceDiagram", "    participant bus")
    return [line.strip() for line in lines]


def test_who_published_what_in_which_order() -> None:
    """
    Sources are participants in the order of their first event; each row is an arrow to the bus.
    """
    assert drawn(event("trainer", "EpochStart", 1), event("app:x", "Go", 4)) == [
        "participant p1 as trainer",
        "participant p2 as app#58;x",
        "p1->>bus: EpochStart 1",
        "p2->>bus: Go 4",
    ]


def test_events_that_follow_each_other_share_a_row() -> None:
    """
    Another type, another source or a number that is missing begins a new one.
    """
    rows = drawn(
        *(event("a", "X", number) for number in (1, 2, 3)),
        event("a", "X", 5),
        event("a", "Y", 6),
        event("b", "Y", 7),
    )

    assert rows[2:] == ["p1->>bus: X 1 to 3", "p1->>bus: X 5", "p1->>bus: Y 6", "p2->>bus: Y 7"]


def test_a_gap_is_drawn_as_lost() -> None:
    """
    It names the type and the numbers that are missing.
    """
    rows = drawn(event("a", "X", 1), gap("a", "X", 2, 9), event("a", "X", 10))

    assert rows[1:] == ["p1->>bus: X 1", "p1-xbus: X 2 to 9 missing", "p1->>bus: X 10"]


def test_rows_are_bounded() -> None:
    """
    The last ones are drawn, with the sources they need, and what is hidden is counted.
    """
    many = [event(f"p{number}", "X", 1) for number in range(100)]
    many[:0] = [event("first", "X", 1), event("first", "X", 2), gap("first", "X", 3, 9)]

    assert drawn(*many, maxlen=2) == [
        "participant p1 as p98",
        "participant p2 as p99",
        "Note over bus: 101 earlier events are not shown",
        "p1->>bus: X 1",
        "p2->>bus: X 1",
    ]


def test_nothing_is_a_diagram_too() -> None:
    """
    Before the first event there is the bus.
    """
    assert drawn() == []


def test_names_cannot_be_anything_else() -> None:
    """
    Line breaks, comments, directives, markup and entities of a publisher's are text.
    """
    rows = drawn(event("a\nend", 'x; %%{init}%% <b> #59; "$$" & end', 1))

    assert rows == [
        "participant p1 as a#92;nend",
        (
            "p1->>bus: x#59; #37;#37;#123;init#125;#37;#37; #60;b#62; #35;59#59; "
            "#34;#36;#36;#34; #38; end 1"
        ),
    ]


def test_names_that_nobody_can_see() -> None:
    """
    Mermaid takes no participant without a name: one stands in its place.
    """
    assert drawn(event("", " ", 1)) == ["participant p1 as (no name)", "p1->>bus: (no name) 1"]


@given(st.lists(st.tuples(st.text(), st.text(min_size=1), st.integers(0, 5)), max_size=20))
def test_any_name(said: list[tuple[str, str, int]]) -> None:
    """
    Whatever they are called, every line is one of four forms, and short.
    """
    name = r"(?:[^\W_]|[ ._/,()-]|#\d+;)+"
    form = re.compile(
        rf"participant p\d+ as {name}|p\d+->>bus: {name} \d+( to \d+)?", flags=re.DOTALL
    )

    lines = drawn(*(event(*one) for one in said))

    assert [line for line in lines if not form.fullmatch(line) or len(line) > 700] == []


def test_no_rows_cannot_be_meant() -> None:
    """
    A diagram has room for something.
    """
    with pytest.raises(UsageError, match="at least one row"):
        SequenceDiagram(0)
