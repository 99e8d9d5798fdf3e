from plugin_worker.node.vitals import KEPT, OFTEN_S, SELDOM_S, Measured, Vitals


def used(cpu_s: float) -> Measured:
    return Measured(memory=1 << 20, cpu_s=cpu_s, threads=2)


class TestVitals:
    def test_one_that_works_is_measured_often(self) -> None:
        """
        Every ten seconds while its processor time moves, and the last figures are kept.
        """
        vitals = Vitals(0, 0.0)
        for turn in range(2 * KEPT):
            now = vitals.due
            vitals.take(used(float(turn)), now)
            assert vitals.due == now + OFTEN_S

        kept = vitals.since(now)
        assert len(kept) == KEPT
        assert [one.cpu_s for one in kept] == [float(turn) for turn in range(KEPT, 2 * KEPT)]
        assert (kept[0].ago_s, kept[-1].ago_s) == ((KEPT - 1) * OFTEN_S, 0.0)
        assert (kept[0].memory, kept[0].threads) == (1 << 20, 2)

    def test_one_that_does_nothing_is_measured_seldom(self) -> None:
        """
        Once a minute in the end; at once more often when it works again.
        """
        vitals = Vitals(0, 0.0)
        for _ in range(9):
            now = vitals.due
            vitals.take(used(1.0), now)
        assert vitals.due == now + SELDOM_S

        vitals.take(used(2.0), now)
        assert vitals.due == now + OFTEN_S

    def test_they_are_not_all_measured_at_once(self) -> None:
        """
        A hundred workers that were started together are measured a tenth at a time.
        """
        times = [Vitals(number, 0.0).due for number in range(100)]

        assert len(set(times)) == 10
        assert max(times) <= OFTEN_S

    def test_one_that_cannot_be_measured_is_tried_again(self) -> None:
        """
        It may be just leaving; nothing is made up.
        """
        vitals = Vitals(0, 0.0)
        vitals.take(None, 5.0)

        assert vitals.since(5.0) == ()
        assert vitals.due == 5.0 + OFTEN_S
