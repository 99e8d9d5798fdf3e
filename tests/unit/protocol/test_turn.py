from protocol.turn import TURN, Link, belongs, spelled

CHAIN: list[Link] = [[1, 5, "app"], [2, 7, "b"]]


class TestTurn:
    def test_a_call_belongs_to_the_wait_that_led_to_it(self) -> None:
        """
        A chain belongs where it contains a call that this process, and no other, waits for.
        """
        TURN.waiting.append(7)
        try:
            assert belongs(CHAIN, own=2)
            assert not belongs(CHAIN, own=1)
            assert not belongs(CHAIN[:1], own=2)
            assert not belongs(None, own=2)
        finally:
            TURN.waiting.pop()

    def test_nothing_belongs_where_nobody_waits(self) -> None:
        """
        A thread that waits for nothing has led to nothing.
        """
        assert not belongs(CHAIN, own=2)

    def test_a_chain_is_written_for_people(self) -> None:
        """
        Names, in the order of the calls.
        """
        assert spelled(CHAIN, "a") == "app -> b -> a"
