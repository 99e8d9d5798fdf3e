"""The ledger finds a loss, a swap, a double and a number that nobody gave, else nothing."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.events.ledger import Account, Ledger

Entry = tuple[int, int, bool]
"""First and last number, and whether they are named by a gap."""

KEY = ("publisher", "Type")


@st.composite
def honest(draw: st.DrawFn) -> list[Entry]:
    """Events and gaps that account for every number from 1, in order."""
    entries: list[Entry] = []
    for size, is_gap in draw(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=2)):
        first = entries[-1][1] + 1 if entries else 1
        entries.append((first, first + size - 1 if is_gap else first, is_gap))
    return entries


def balance(entries: Iterable[Entry], published: int) -> Account:
    """Enter everything, and close."""
    ledger = Ledger()
    for first, last, is_gap in entries:
        if is_gap:
            ledger.name(*KEY, first, last)
        else:
            ledger.hear(*KEY, first, first)
    return ledger.close({KEY: published})


def size(entry: Entry) -> int:
    """How many events an entry stands for."""
    return entry[1] - entry[0] + 1


@given(honest())
def test_what_is_as_promised_is_found_to_be(entries: list[Entry]) -> None:
    """Nothing is wrong, and what was heard and what was named is everything."""
    published = entries[-1][1]
    account = balance(entries, published)
    assert account.wrongs == (0, 0, 0, 0)
    assert account.heard + account.named == published
    assert account.gaps == sum(is_gap for _, _, is_gap in entries)


@given(honest(), st.data())
def test_a_loss_is_found(entries: list[Entry], data: st.DataObject) -> None:
    """Wherever it is: at the beginning, in the middle, at the end."""
    published = entries[-1][1]
    missing = entries.pop(data.draw(st.integers(0, len(entries) - 1)))
    assert balance(entries, published).wrongs == (size(missing), 0, 0, 0)


@given(honest(), st.data())
def test_a_swap_is_found(entries: list[Entry], data: st.DataObject) -> None:
    """Two neighbours change places: the one that comes late is out of order, and not lost."""
    published = entries[-1][1]
    at = data.draw(st.integers(0, len(entries) - 2))
    entries[at], entries[at + 1] = entries[at + 1], entries[at]
    assert balance(entries, published).wrongs == (0, size(entries[at + 1]), 0, 0)


@given(honest(), st.data())
def test_a_double_is_found(entries: list[Entry], data: st.DataObject) -> None:
    """At once or much later, as an event or as a gap."""
    published = entries[-1][1]
    at = data.draw(st.integers(0, len(entries) - 1))
    later = data.draw(st.integers(at + 1, len(entries)))
    entries.insert(later, entries[at])
    assert balance(entries, published).wrongs == (0, 0, size(entries[at]), 0)


@given(honest(), st.data())
def test_a_gap_that_names_too_little_or_too_much_is_found(
    entries: list[Entry], data: st.DataObject
) -> None:
    """One number too few is lost, one too many is doubled."""
    published = entries[-1][1] + 1
    gap = (published + 1, published + 3, True)
    entries += [(published, published, False), gap, (published + 4, published + 4, False)]
    short = [
        (first, last - ((first, last, is_gap) == gap), is_gap) for first, last, is_gap in entries
    ]
    wide = [
        (first - ((first, last, is_gap) == gap), last, is_gap) for first, last, is_gap in entries
    ]
    assert balance(entries, published + 4).wrongs == (0, 0, 0, 0)
    assert balance(short, published + 4).wrongs == (1, 0, 0, 0)
    assert balance(wide, published + 4).wrongs == (0, 0, 1, 0)


def test_a_type_of_which_nothing_came_is_lost() -> None:
    """All of it."""
    ledger = Ledger()
    assert ledger.behind({KEY: 7}) == 7
    assert ledger.close({KEY: 7}).wrongs == (7, 0, 0, 0)


def test_numbers_that_nobody_gave_are_found() -> None:
    """A stamp that is not the publisher's number, an event or a gap too many, a gap of nothing."""
    ledger = Ledger()
    ledger.hear(*KEY, 2, 1)
    ledger.hear(*KEY, 2, 2)
    ledger.name(*KEY, 9, 8)
    assert ledger.close({KEY: 2}).wrongs == (0, 0, 0, 2)
    assert ledger.close({KEY: 1}).wrongs == (0, 0, 0, 3)
    assert ledger.close({}).wrongs == (0, 0, 0, 4)


def test_lines_are_told_apart() -> None:
    """By source and by type."""
    ledger = Ledger()
    keys = [("a", "X"), ("a", "Y"), ("b", "X")]
    for key in keys:
        ledger.hear(*key, 1, 1)
    assert ledger.close(dict.fromkeys(keys, 1)) == Account(heard=3)


@given(st.permutations(range(1, 9)))
def test_any_order_loses_nothing(order: list[int]) -> None:
    """However mixed up: all are heard, and only order is complained about."""
    account = balance([(number, number, False) for number in order], 8)
    assert (account.heard, account.lost, account.doubled) == (8, 0, 0)
    highest = [max(order[:place], default=0) for place in range(8)]
    assert account.out_of_order == sum(
        number < before for number, before in zip(order, highest, strict=True)
    )
