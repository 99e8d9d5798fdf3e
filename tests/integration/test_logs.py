"""What plugins print is kept in full; one that prints too much waits, and nobody else does."""

import time
from typing import Final

import pytest

from plugin_worker.node.logs import BURST, LEAST_BURST, RATE
from protocol.failpoints import SPEC
from tests.actors import Aside
from tests.hosts import DEADLINE, Run, eventually

LINE: Final = 6 << 20


class TestLogs:
    def test_there_is_no_limit_on_a_line(self, run: Run) -> None:
        """A line of six megabytes arrives whole, within the budget."""
        host = run.embed("flooder")
        host.get_service("flooder").say(LINE)
        host.unload("flooder")

        assert (run.run_dir / "logs" / "flooder.log").read_bytes() == b"x" * LINE

    def test_what_it_printed_last_is_there_when_it_is_known_to_have_ended(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also what its node has left in the pipe, because it was beyond the budget."""
        monkeypatch.setenv(SPEC, "node/exit.told=delay(1000)")
        run.config_dir.mkdir(mode=0o700, parents=True)
        (run.config_dir / "spiral.toml").write_text('[limits]\nlog_rate = "1 KiB"\n')
        host, log = run.embed("flooder"), run.run_dir / "logs" / "flooder.log"
        flooder, much = host.get_service("flooder"), LEAST_BURST + (20 << 10)
        flooder.say(much)
        eventually(lambda: log.stat().st_size == much, 2 * DEADLINE)
        flooder.say(10)
        host.unload("flooder")

        assert log.stat().st_size == much + 10

    def test_who_prints_beyond_its_budget_waits_and_nobody_else(self, run: Run) -> None:
        """Its own write takes as long as the budget says; another plugin is called meanwhile."""
        host = run.embed("flooder", "polite")
        flooder, polite = host.get_service("flooder"), host.get_service("polite")
        began = time.monotonic()
        said = Aside(lambda: flooder.say(BURST + RATE))
        answered = 0
        while not said.is_done:
            assert polite.add(1, 2) == 3
            answered += 1

        assert said.outcome() is None
        assert time.monotonic() - began > 0.8
        assert answered > 5
        assert host.get("flooder").restarts == 0
