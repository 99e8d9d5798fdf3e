from plugin_worker.node.causes import Causes
from protocol.messages import Explain, Unexplained

APP, MATH, SHOP = 1, 2, 3


class Machine:
    """The decider where the application and the shop have lanes with math, and who ends is said."""

    def __init__(self, *ending: int) -> None:
        self.said: list[tuple[int, Unexplained]] = []
        self.ending = set(ending)
        self.causes = Causes(
            lambda number, answer: self.said.append((number, answer)),
            lambda one, other: MATH in {one, other} and one != other,
            self.ending.__contains__,
        )


class TestCauses:
    def test_a_peer_that_lives_is_said_to(self) -> None:
        """
        It has closed the lane itself, and whoever asks is told so at once.
        """
        machine = Machine()
        machine.causes.asked(APP, Explain("7", MATH))

        assert machine.said == [(APP, Unexplained("7"))]
        assert machine.causes.askers(MATH) == set()

    def test_a_death_that_is_about_to_be_told_is_the_answer(self) -> None:
        """
        Those who asked are told of it once, however often they asked and whatever lanes they have.
        """
        machine = Machine(MATH)
        for asker in (APP, SHOP, APP):
            machine.causes.asked(asker, Explain("7", MATH))

        assert machine.said == []
        assert machine.causes.askers(SHOP) == set()
        assert machine.causes.askers(MATH) == {APP, SHOP}
        assert machine.causes.askers(MATH) == set()

    def test_whose_death_has_been_told_is_not_told_of_again(self) -> None:
        """
        It ends no more: whoever asks has heard of it before the answer comes.
        """
        machine = Machine(MATH)
        machine.causes.asked(APP, Explain("7", MATH))
        machine.causes.askers(MATH)
        machine.ending.clear()
        machine.causes.asked(APP, Explain("8", MATH))

        assert machine.said == [(APP, Unexplained("8"))]

    def test_a_stranger_is_told_nothing(self) -> None:
        """
        Who has no lane with it does not learn whether it ends, and waits for nothing.
        """
        machine = Machine(SHOP)
        machine.causes.asked(APP, Explain("7", SHOP))

        assert machine.said == [(APP, Unexplained("7"))]
        assert machine.causes.askers(SHOP) == set()
