from hypothesis import given
from hypothesis import strategies as st

from protocol.window import (
    ANSWER_BYTES,
    ANSWER_EVENTS,
    WINDOW_BYTES,
    WINDOW_EVENTS,
    Receipts,
    Window,
)


class TestWindow:
    def test_it_is_full_at_its_number_of_events(self) -> None:
        """
        A publisher may have so many events under way, and not one more.
        """
        window = Window()
        for _ in range(WINDOW_EVENTS):
            assert not window.is_full
            window.sent(1, 0)

        assert window.is_full

    def test_it_is_full_at_its_number_of_bytes(self) -> None:
        """
        Few large events fill it as many small ones do.
        """
        window = Window()
        window.sent(1, WINDOW_BYTES - 1)
        assert not window.is_full
        window.sent(1, 1)

        assert window.is_full

    def test_what_was_taken_makes_room(self) -> None:
        """
        Events and bytes are told together, and count as they were sent.
        """
        window = Window()
        window.sent(1, WINDOW_BYTES)
        window.sent(WINDOW_EVENTS, 5)

        window.taken(1, WINDOW_BYTES)
        assert window.is_full
        window.taken(1, 1)
        assert not window.is_full


class TestReceipts:
    def test_a_publisher_is_told_now_and_then(self) -> None:
        """
        Not of each event, but when a quarter of its window was taken in, by either measure.
        """
        receipts = Receipts()

        assert receipts.took(ANSWER_EVENTS - 1, 0) is None
        assert receipts.took(1, 9) == (ANSWER_EVENTS, 9)
        assert receipts.took(1, ANSWER_BYTES) == (1, ANSWER_BYTES)
        assert receipts.took(1, ANSWER_BYTES - 1) is None

    @given(st.lists(st.tuples(st.integers(1, 600), st.integers(1, 60_000)), max_size=60))
    def test_a_publisher_never_waits_for_what_was_taken(self, runs: list[tuple[int, int]]) -> None:
        """
        A window is never full of what was taken in and not told: the two bounds fit.
        """
        window, receipts = Window(), Receipts()
        for events, size in runs:
            assert not window.is_full
            window.sent(events, size)
            told = receipts.took(events, size)
            if told is not None:
                window.taken(*told)

        assert not window.is_full
