import math
import time
from pathlib import Path
from typing import cast

import pytest

from plugin_worker.context import Host, PluginContext
from protocol.errors import UsageError
from protocol.flight import MAX_BUSY_S


class FakePublisher:
    """Publishes nothing."""

    publish = None


class FakeHost:
    """What the runtime does of it here."""

    publisher = FakePublisher()

    def __init__(self) -> None:
        self.until: list[float] = []

    def busy(self, until: float) -> None:
        self.until.append(until)


class TestBusy:
    def test_a_plugin_says_for_how_long(self) -> None:
        """
        From now on, up to an hour; 0 takes it back.
        """
        host = FakeHost()
        context = PluginContext(cast("Host", host), "base", Path("/nowhere"))
        before = time.monotonic()
        context.busy(60)
        context.busy(MAX_BUSY_S)
        context.busy(0)

        assert before + 60 <= host.until[0] <= time.monotonic() + 60
        assert host.until[2] == 0.0

    @pytest.mark.parametrize("seconds", [-1, MAX_BUSY_S + 1, math.inf, math.nan])
    def test_no_other_time_is_meant(self, seconds: float) -> None:
        """
        Who would be busy for ever, or was yesterday, has made a mistake and is told so.
        """
        host = FakeHost()
        context = PluginContext(cast("Host", host), "base", Path("/nowhere"))
        with pytest.raises(UsageError, match="0 to 3600"):
            context.busy(seconds)
        assert host.until == []
