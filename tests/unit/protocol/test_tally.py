import pytest

from protocol.tally import EVERY_S, MAX_KINDS, MAX_WHAT, OTHERS, Tally

START = 1000.0


def note(tally: Tally, what: str = "Secret", now: float = START, times: int = 1) -> list[int]:
    return [told.times for told in tally.note("publish", what, times, now)]


class TestTally:
    def test_the_first_of_a_kind_is_told_at_once(self) -> None:
        """
        Each permission, and each thing that was tried, is a kind of its own.
        """
        tally = Tally()

        assert tally.note("publish", "Secret", 1, START) == (("publish", "Secret", 1),)
        assert tally.note("publish", "Other", 1, START) == (("publish", "Other", 1),)
        assert tally.note("subscribe", "Secret", 1, START) == (("subscribe", "Secret", 1),)

    def test_what_goes_on_is_told_as_a_count(self) -> None:
        """
        However often it happens: once in ten seconds.
        """
        tally = Tally()
        note(tally)
        assert [note(tally, times=5) for _ in range(1000)] == [[]] * 1000

        assert tally.deadline == START + EVERY_S
        assert tally.expire(START + EVERY_S - 0.1) == ()
        assert tally.expire(START + EVERY_S) == (("publish", "Secret", 5000),)
        assert tally.expire(START + EVERY_S) == ()

    def test_what_has_stopped_is_forgotten(self) -> None:
        """
        Then it is news again, and nothing is waited for.
        """
        tally = Tally()
        note(tally)
        tally.expire(START + EVERY_S)

        assert tally.deadline is None
        assert note(tally, now=START + 2 * EVERY_S) == [1]

    def test_kinds_are_bounded(self) -> None:
        """
        Whoever tries something else each time is told of by permission alone.
        """
        tally = Tally()
        told = [one for n in range(1000) for one in tally.note("publish", f"T{n}", 1, START)]
        assert len(told) == MAX_KINDS + 1
        assert told[-1] == ("publish", OTHERS, 1)

        assert tally.expire(START + EVERY_S) == (("publish", OTHERS, 1000 - MAX_KINDS - 1),)

    @pytest.mark.parametrize("letter", ["x", "\xe9", "\u20ac", "\U0001f300", "\udcff"])
    def test_what_was_tried_is_cut(self, letter: str) -> None:
        """
        By its bytes, between two characters: a plugin may have chosen it.
        """
        (told,) = Tally().note("read", letter * 100_000, 1, START)

        assert MAX_WHAT - 4 < len(told.what.encode()) <= MAX_WHAT
        assert told.what.endswith("...")

    @pytest.mark.parametrize("letter", ["x", "\xe9", "\u20ac", "\U0001f300"])
    def test_what_fits_stays(self, letter: str) -> None:
        what = letter * (MAX_WHAT // len(letter.encode()))
        (told,) = Tally().note("read", what, 1, START)
        assert told.what == what

    def test_what_cannot_travel_is_escaped(self) -> None:
        """
        A file's name need not be text.
        """
        (told,) = Tally().note("read", "/tmp/\udcff", 1, START)
        assert told.what == "/tmp/\\udcff"

    def test_nothing_is_lost_at_the_end(self) -> None:
        """
        What was counted and not told is told when nothing follows.
        """
        tally = Tally()
        note(tally)
        note(tally, times=3)

        assert tally.rest() == (("publish", "Secret", 3),)
        assert tally.rest() == ()
