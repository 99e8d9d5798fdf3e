import json
import math

import pytest

from protocol.errors import UsageError
from protocol.limits import DEFAULTS, NO_CAPS, WORDS, Limits, capped, parse_limits


class TestReading:
    def test_sizes_counts_and_rates(self) -> None:
        """
        Sizes are bytes or a number with a unit; what is not named keeps its default.
        """
        limits = parse_limits({"memory": "2 GiB", "disk": 4096, "cpu": 1.5, "threads": 8})

        assert (limits.memory, limits.disk, limits.cpu) == (2 << 30, 4096, 1.5)
        assert (limits.threads, limits.files) == (8, DEFAULTS.files)
        assert parse_limits(json.loads(json.dumps(limits.to_wire()))) == limits

    @pytest.mark.parametrize(
        ("table", "why"),
        [
            ("x", "no table"),
            ({"ram": 1}, "unknown limit 'ram'; known: memory, cpu"),
            ({"memory": "1 MiB"}, "memory = '1 MiB' is no size"),
            ({"memory": "lots"}, "memory = 'lots' is no size"),
            ({"memory": -1}, "memory = -1 is no size"),
            ({"memory": True}, "memory = True is no size"),
            ({"cpu": 0}, "cpu = 0 is no number"),
            ({"cpu": math.nan}, "cpu = nan is no number"),
            ({"cpu": math.inf}, "cpu = inf is no number"),
            ({"threads": 0}, "threads = 0 is no number from 1"),
            ({"threads": 1.0}, "threads = 1.0 is no number"),
            ({"files": 10}, "files = 10 is no number from 64"),
            ({"event_rate": "fast"}, "event_rate = 'fast' is no number"),
        ],
        ids=repr,
    )
    def test_what_cannot_be_meant_is_refused_by_name(self, table: object, why: str) -> None:
        """
        The author is told which limit it is, and what is wrong with it.
        """
        with pytest.raises(UsageError) as caught:
            parse_limits(table)

        assert why in str(caught.value)


class TestCaps:
    def test_the_lesser_counts(self) -> None:
        """
        A manifest may ask for less than the operator allows, never get more.
        """
        asked = parse_limits({"memory": "8 GiB", "threads": 4})
        caps = parse_limits({"memory": "1 GiB", "threads": 100, "cpu": 1}, otherwise=NO_CAPS)

        assert capped(asked, caps) == Limits(memory=1 << 30, threads=4, cpu=1.0)

    def test_without_caps_everything_is_as_asked(self) -> None:
        """
        An operator who says nothing changes nothing.
        """
        asked = Limits(**dict.fromkeys(WORDS, 1 << 40))

        assert capped(asked, NO_CAPS) == asked
        assert capped(DEFAULTS, NO_CAPS) == DEFAULTS
