from dataclasses import replace

import pytest

from plugin_worker.node.vitals import Measured
from plugin_worker.node.watch import (
    CPU_S,
    MAX_DEPTH,
    MAX_FILES,
    OFTEN_S,
    SELDOM_S,
    SELDOM_SHARE,
    SHARE,
    WEIGH_SELDOM_S,
    WEIGH_SMALL_S,
    Breach,
    Watch,
    Weight,
)
from protocol.limits import Limits

NOW = 1000.0
MiB = 1 << 20
LIMITS = Limits(memory=256 * MiB, cpu=1.0, threads=20, processes=4, disk=10 * MiB)
IDLE = Measured(memory=20 * MiB, cpu_s=0.1, threads=1)


def watch(*held: str) -> Watch:
    return Watch(LIMITS, "/data/plugin", NOW, held)


class TestMeasures:
    @pytest.mark.parametrize(
        ("used", "words"),
        [
            ({"memory": 300 * MiB}, "limit memory: 300 MiB used, 256 MiB allowed"),
            ({"threads": 21}, "limit threads: 21 threads, 20 allowed"),
            ({"processes": 5}, "limit processes: 5 processes, 4 allowed"),
        ],
    )
    def test_more_than_allowed_is_a_breach_with_the_limits_name(
        self, used: dict[str, int], words: str
    ) -> None:
        """
        What is just allowed is none, and what the kernel holds is not looked at.
        """
        (limit,) = used
        breach = watch().take(replace(IDLE, **used), NOW)
        assert str(breach) == words
        assert watch().take(replace(IDLE, **{limit: getattr(LIMITS, limit)}), NOW) is None
        assert watch(limit).take(replace(IDLE, **used), NOW) is None

    def test_a_short_peak_of_the_processor_is_no_breach(self) -> None:
        """
        Two cores for half the time that counts, none for the rest of it: as much as allowed.
        """
        over = watch()
        for second in range(30):
            used = 2.0 * (min(5, second % 10)) + 10.0 * (second // 10)
            assert over.take(replace(IDLE, cpu_s=used), NOW + second) is None

    def test_cores_used_for_long_are_a_breach(self) -> None:
        """
        Not before it has lasted, and only where no group slows the worker down.
        """
        over, held = watch(), watch("cpu")
        said = {}
        for second in range(0, 20, 2):
            measured = replace(IDLE, cpu_s=2.3 * second)
            assert held.take(measured, NOW + second) is None
            said[second] = over.take(measured, NOW + second)

        assert not any(said[second] for second in said if second < CPU_S)
        assert said[int(CPU_S)] == Breach("cpu", "2.3 cores used, 1 allowed")

    def test_one_core_used_whole_is_one_core(self) -> None:
        """
        A little more may be seen, since the kernel counts in ticks.
        """
        over = watch()
        said = [over.take(replace(IDLE, cpu_s=1.02 * s), NOW + s) for s in range(0, 40, 2)]
        assert not any(said)

    def test_it_is_looked_at_more_often_when_it_works_or_is_near_a_limit(self) -> None:
        """
        And seldom while it does nothing.
        """
        over = watch()
        over.take(IDLE, NOW)
        assert over.due == NOW + OFTEN_S, "nothing is known of before"
        over.take(IDLE, NOW + 2)
        assert over.due == NOW + 2 + SELDOM_S
        over.take(replace(IDLE, cpu_s=0.2), NOW + 12)
        assert over.due == NOW + 12 + OFTEN_S
        over.take(replace(IDLE, cpu_s=0.2, threads=11), NOW + 14)
        assert over.due == NOW + 14 + OFTEN_S


class TestWeights:
    @pytest.mark.parametrize(
        ("weight", "words"),
        [
            (Weight(size=11 * MiB), "more than the 10 MiB allowed"),
            (Weight(files=MAX_FILES + 1), "more than 100000 files"),
            (Weight(depth=MAX_DEPTH + 1), "folders more than 64 deep, which nobody counts"),
        ],
    )
    def test_too_much_is_a_breach_that_names_the_folder_and_the_cure(
        self, weight: Weight, words: str
    ) -> None:
        """
        A plugin that starts so is ended again and again: the operator has to know where to look.
        """
        assert str(watch().weighed(weight, 0.0, NOW)) == (
            f"limit disk: {words} in /data/plugin and its private folder; "
            "remove some, or raise disk in [limits]"
        )

    def test_what_is_just_allowed_is_no_breach(self) -> None:
        """
        Bytes, files and depth at their limits.
        """
        weight = Weight(size=LIMITS.disk, files=MAX_FILES, depth=MAX_DEPTH)
        assert watch().weighed(weight, 0.0, NOW) is None

    def test_it_is_weighed_soon_while_it_changes_and_seldom_when_not(self) -> None:
        """
        Never twice at a time, and the less often the longer it takes.
        """
        over = watch()
        assert over.weigh_due == NOW + OFTEN_S
        over.weighing()
        assert over.weigh_due == float("inf")
        over.weighed(Weight(size=1), 0.0, NOW)
        assert over.weigh_due == NOW + OFTEN_S
        over.weighed(Weight(size=1), 0.0, NOW)
        assert over.weigh_due == NOW + WEIGH_SMALL_S
        over.weighed(Weight(size=1), 0.001, NOW)
        assert over.weigh_due == NOW + 0.001 * SELDOM_SHARE
        over.weighed(Weight(size=1), 0.1, NOW)
        assert over.weigh_due == NOW + WEIGH_SELDOM_S
        over.weighed(Weight(size=1), 2.0, NOW)
        assert over.weigh_due == NOW + 2 * SHARE

    def test_folders_of_one_that_works_are_weighed_sooner(self) -> None:
        """
        Once weighed, it takes more processor time again.
        """
        over = watch()
        over.weighing()
        over.take(replace(IDLE, cpu_s=9.0), NOW + 1)
        assert over.weigh_due == float("inf"), "it is being weighed"
        over.weighed(Weight(), 0.0, NOW + 1)
        over.take(replace(IDLE, cpu_s=9.0), NOW + 2)
        assert over.weigh_due == NOW + 1 + OFTEN_S
        over.weighing()
        over.weighed(Weight(), 0.0, NOW + 3)
        over.take(replace(IDLE, cpu_s=9.01), NOW + 8)
        assert over.weigh_due == NOW + 3 + WEIGH_SMALL_S
        over.take(replace(IDLE, cpu_s=9.03), NOW + 12)
        assert over.weigh_due == NOW + 12

    def test_room_taken_without_any_work_is_seen_soon(self) -> None:
        """
        One call of the kernel's takes gigabytes and no processor time.
        """
        over = watch()
        over.weighing()
        over.weighed(Weight(), 0.0002, NOW)
        over.weighing()
        over.weighed(Weight(), 0.0002, NOW + OFTEN_S)
        over.take(IDLE, NOW + OFTEN_S)
        assert over.weigh_due <= NOW + OFTEN_S + 10
        assert over.weighed(Weight(size=LIMITS.disk + 1), 0.0002, over.weigh_due) is not None
