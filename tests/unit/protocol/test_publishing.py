from math import inf, nan

import pytest

from protocol.errors import DeadlineExceeded, UsageError
from protocol.names import Topic
from protocol.publishing import (
    LATE,
    MAX_WAIT_S,
    PublishFailure,
    PublishReport,
    check_wait,
    report_of,
    require_all,
)

LOSS = Topic("Loss")


class TestReport:
    def test_a_report_says_what_travelled(self) -> None:
        """
        Figures as they are, each failure with its subscriber.
        """
        report = report_of(LOSS, 3, 1, [["logger", "ValueError: no"], ("app:demo", LATE)])

        assert report == PublishReport(
            "Loss",
            matched=3,
            delivered=1,
            failures=(PublishFailure("logger", "ValueError: no"), PublishFailure("app:demo", LATE)),
        )

    def test_one_that_nobody_wants_is_empty(self) -> None:
        """
        No callback, no failure.
        """
        assert report_of(LOSS, 0, 0, ()) == PublishReport("Loss")


class TestWaiting:
    @pytest.mark.parametrize("seconds", [0, -1, nan, inf, MAX_WAIT_S + 1, "1", None])
    def test_a_time_that_is_none_is_refused(self, seconds: object) -> None:
        """
        More than nothing, and at most ten minutes.
        """
        with pytest.raises(UsageError, match="more than 0 and at most 600 seconds"):
            check_wait(seconds)

    @pytest.mark.parametrize("seconds", [0.001, 1, MAX_WAIT_S])
    def test_a_time_is_taken(self, seconds: float) -> None:
        """
        In seconds, whole or not.
        """
        assert check_wait(seconds) == seconds
        assert type(check_wait(seconds)) is float

    def test_who_is_late_is_named(self) -> None:
        """
        All of those that still run, and none of those that raised.
        """
        report = report_of(LOSS, 3, 0, [("a", "ValueError: no"), ("b", LATE), ("c", LATE)])

        with pytest.raises(DeadlineExceeded, match=r"event Loss at b, c.*5"):
            require_all(report, 5.0)

    def test_a_callback_that_raised_has_run(self) -> None:
        """
        What it raised is its own affair.
        """
        require_all(report_of(LOSS, 1, 0, [("a", f"ValueError: {LATE}")]), 5.0)
        require_all(PublishReport("Loss"), 5.0)
