from protocol.names import EVERYTHING, Topic
from protocol.wanted import LINGER_S, Wanted

LOSS, STEP, TRAINER = Topic("Loss"), Topic("Step"), Topic("Trainer.*")


def told(*patterns: Topic) -> Wanted:
    """Give what a node wants that has been told so much."""
    wanted = Wanted()
    wanted.told(1, patterns, (), full=True, now=0.0)
    return wanted


class TestTold:
    def test_before_anything_is_told_everything_is_wanted(self) -> None:
        """
        Nobody can know yet what is wanted, so nothing is kept back.
        """
        wanted = Wanted()
        wanted.own([LOSS])

        assert wanted.patterns == {EVERYTHING}

    def test_what_is_told_is_wanted(self) -> None:
        """
        The first list replaces everything, and each word after it changes what it names.
        """
        wanted = told(LOSS, STEP)
        assert wanted.patterns == {LOSS, STEP}

        assert wanted.told(2, (TRAINER,), (STEP,), full=False, now=0.0)
        assert wanted.patterns == {LOSS, TRAINER}
        assert (wanted.generation, wanted.deadline) == (2, None)

    def test_an_empty_first_list_is_one(self) -> None:
        """
        Nobody wants anything: the page says so, instead of everything.
        """
        wanted = Wanted()

        assert wanted.told(1, (), (), full=True, now=0.0)
        assert wanted.patterns == frozenset()

    def test_what_changes_nothing_is_not_worth_writing(self) -> None:
        """
        The hub tells a node what its own workers want, too; the page has that already.
        """
        wanted = told(LOSS)
        assert wanted.own([STEP])
        assert not wanted.own([STEP])

        assert not wanted.told(2, (STEP,), (), full=False, now=0.0)
        assert not wanted.told(3, (), (STEP,), full=False, now=0.0)
        assert wanted.patterns == {LOSS, STEP}
        assert wanted.told(4, (), (LOSS,), full=False, now=0.0)

    def test_everything_stands_alone(self) -> None:
        """
        A page that says everything needs to say nothing else.
        """
        wanted = told(LOSS, EVERYTHING)
        wanted.own([STEP])

        assert wanted.patterns == {EVERYTHING}


class TestOwn:
    def test_what_its_own_workers_want_is_wanted_at_once(self) -> None:
        """
        Whatever the hub says, and only as long as they want it.
        """
        wanted = told(LOSS)
        wanted.own([STEP])
        wanted.told(2, (), (STEP,), full=False, now=0.0)
        assert wanted.patterns == {LOSS, STEP}

        assert wanted.own([])
        assert wanted.patterns == {LOSS}


class TestTakeover:
    def test_what_the_last_hub_told_lingers(self) -> None:
        """
        Clients come back to a new hub later than nodes, and miss nothing that they wanted.
        """
        wanted = told(LOSS, STEP)
        wanted.hub_lost()
        assert wanted.patterns == {LOSS, STEP}
        assert wanted.deadline is None

        wanted.told(1, (TRAINER,), (), full=True, now=50.0)
        assert wanted.patterns == {LOSS, STEP, TRAINER}
        assert wanted.told(2, (LOSS,), (), full=False, now=51.0) is False

        assert wanted.deadline == 50.0 + LINGER_S
        assert not wanted.expire(59.9)
        assert wanted.expire(60.0)
        assert not wanted.expire(60.0)
        assert wanted.patterns == {LOSS, TRAINER}
        assert wanted.deadline is None

    def test_who_came_back_and_left_may_not_have_been_the_only_one(self) -> None:
        """
        What one client no longer wants may be what another is about to want again.
        """
        wanted = told(LOSS)
        wanted.told(1, (), (), full=True, now=50.0)
        wanted.told(2, (LOSS,), (), full=False, now=51.0)

        assert not wanted.told(3, (), (LOSS,), full=False, now=52.0)
        assert wanted.patterns == {LOSS}

    def test_a_list_that_is_told_twice_drops_nothing_early(self) -> None:
        """
        A hub tells its list again when one word was lost; clients still have as long to return.
        """
        wanted = told(LOSS)
        wanted.told(1, (STEP,), (), full=True, now=50.0)
        wanted.told(2, (STEP,), (), full=True, now=51.0)
        assert wanted.patterns == {LOSS, STEP}

        wanted.expire(51.0 + LINGER_S)
        assert wanted.patterns == {STEP}

    def test_a_hub_that_dies_early_is_no_reason_to_forget(self) -> None:
        """
        What lingers is kept while there is no hub, and for as long again behind the third.
        """
        wanted = told(LOSS)
        wanted.told(1, (STEP,), (), full=True, now=50.0)
        wanted.hub_lost()
        assert not wanted.expire(1000.0)

        wanted.told(1, (), (), full=True, now=2000.0)
        wanted.expire(2000.0 + LINGER_S - 0.1)
        assert wanted.patterns == {LOSS, STEP}
        wanted.expire(2000.0 + LINGER_S)
        assert wanted.patterns == frozenset()
