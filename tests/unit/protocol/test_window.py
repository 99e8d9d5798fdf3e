from protocol.window import WINDOW_BYTES, WINDOW_EVENTS, Window


class TestWindow:
    def test_it_is_full_at_its_number_of_events(self) -> None:
        """
        A publisher may have so many events under way, and not one more.
        """
        window = Window()
        for _ in range(WINDOW_EVENTS):
            assert not window.is_full
            window.sent(1)

        assert window.is_full

    def test_it_is_full_at_its_number_of_bytes(self) -> None:
        """
        Few large events fill it as many small ones do.
        """
        window = Window()
        window.sent(WINDOW_BYTES)

        assert window.is_full

    def test_what_was_taken_makes_room(self) -> None:
        """
        The oldest events leave first, with their own sizes.
        """
        window = Window()
        window.sent(WINDOW_BYTES)
        window.sent(5)

        window.taken(1)

        assert not window.is_full

    def test_more_taken_than_sent_is_harmless(self) -> None:
        """
        A node that counts too many does not make the window larger.
        """
        window = Window()
        window.sent(3)
        window.taken(1000)
        window.sent(WINDOW_BYTES)

        assert window.is_full
