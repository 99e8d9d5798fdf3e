"""Kill the daemon, again and again, while plugins publish; then have every event accounted for.

The events come in spells, one for each kill and one more at the end. A kill falls at a random
moment of its spell, and the next daemon starts at once or a little later in it; the next spell
begins when it answers. Within a spell nothing holds the publishers back but `publish` itself.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

from spiral_host import NoDaemon
from tests.chaos.copies import copies_of
from tests.chaos.events.ledger import Account
from tests.chaos.table import Row
from tests.hosts import Run, all_ready, eventually

HERE: Final = Path(__file__).parent
TYPES: Final = ["Chaos.a", "Chaos.b", "Chaos.c"]
PATTERNS: Final = (["*"], ["Chaos.*"], TYPES)
"""What each of the auditors subscribes to: all of them are to hear everything."""

PUBLISHERS: Final = 3
SPELL_S: Final = 100.0
"""For one spell: half a million events at a twentieth of the speed that is expected."""

QUIET_S: Final = 10.0
"""Nothing more has come for so long: it never will. A loss at the end is said within a second."""

PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to happen.

    Attributes:
        events: Of all publishers together.
        seed: Of the moments of the kills.
        fault: What one publisher does wrong at the end, to see that it is found.
        quiet_s: After how much silence, seconds, what has not come is lost.
    """

    events: int
    kills: int
    seed: int
    fault: str = ""
    quiet_s: float = QUIET_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What has happened.

    Attributes:
        accounts: One for each auditor, and `heard_last` what it heard after the last kill.
    """

    plan: Plan
    published: int
    accounts: list[Account]
    heard_last: list[int]
    seconds: float

    @property
    def rows(self) -> list[Row]:
        """What is printed of it: all auditors together."""
        columns = zip(*map(astuple, self.accounts), strict=True)
        heard, gaps, named, *wrongs = map(sum, columns)
        names = ("lost", "out of order", "doubled", "misnumbered")
        return [
            Row(what="the daemon killed", found=self.plan.kills),
            Row(what="events published", found=self.published),
            Row(what="a second", found=self.published / self.seconds, unit="/s"),
            Row(what=f"heard, by {len(self.accounts)} subscribers", found=heard),
            Row(what="gaps", found=gaps),
            Row(what="named in them", found=named),
            *(
                Row(what=name, found=wrong, of=heard, most=0)
                for name, wrong in zip(names, wrongs, strict=True)
            ),
        ]


class Storm:
    """Publishers and auditors of one run, and the daemon that is killed under them."""

    def __init__(self, run: Run, folder: Path, plan: Plan) -> None:
        self._run = run
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._host = run.start()
        assert all_ready(self._host.load(list(_plugins(folder))))
        offer = self._host.get_service
        self._publishers = {f"numberer{n}": offer(f"count.numberer{n}") for n in range(PUBLISHERS)}
        self._auditors = [offer(f"audit.auditor{n}") for n in range(len(PATTERNS))]
        for auditor, patterns in zip(self._auditors, PATTERNS, strict=True):
            auditor.listen(patterns)

    def rage(self) -> Outcome:
        """Publish and kill as planned, and balance the books."""
        plan, began = self._plan, time.monotonic()
        share = -(-plan.events // ((plan.kills + 1) * PUBLISHERS))
        for _ in range(plan.kills):
            self._publish(share)
            self._kill_within(share * PUBLISHERS)
            self._wait_done()
            eventually(self._answers, SPELL_S)
        before = [account.heard for account in self._accounts()]
        self._publish(share, plan.fault)
        self._wait_done()
        self._wait_quiet()
        seconds = time.monotonic() - began
        accounts = self._accounts()
        assert {info.restarts for info in self._host.list_plugins()} == {0}
        return Outcome(
            plan=plan,
            published=sum(self._published().values()),
            accounts=accounts,
            heard_last=[now.heard - then for now, then in zip(accounts, before, strict=True)],
            seconds=seconds,
        )

    def _publish(self, share: int, fault: str = "") -> None:
        first, *others = self._publishers.values()
        first.start(TYPES, share, fault)
        for publisher in others:
            publisher.start(TYPES, share)

    def _kill_within(self, count: int) -> None:
        begun = sum(self._published().values())
        killed, started = sorted(self._random.uniform(0.02, 0.7) * count for _ in range(2))
        if self._random.random() < 0.5:
            started = killed
        self._wait_published(begun + killed)
        self._run.kill_daemon()
        self._wait_published(begun + started)
        self._run.start_daemon()

    def _wait_published(self, count: float) -> None:
        until = time.monotonic() + SPELL_S
        while sum(self._published().values()) < count and not self._is_done():
            assert time.monotonic() < until, "publish() does not return"
            time.sleep(PAUSE_S)

    def _wait_done(self) -> None:
        eventually(self._is_done, SPELL_S)

    def _is_done(self) -> bool:
        return all(publisher.is_done() for publisher in self._publishers.values())

    def _wait_quiet(self) -> None:
        """Return when all has come, or nothing comes any more."""
        published = self._published()
        behind, since = -1, time.monotonic()
        while behind and time.monotonic() - since < self._plan.quiet_s:
            now = sum(auditor.behind(published) for auditor in self._auditors)
            if now != behind:
                behind, since = now, time.monotonic()
            time.sleep(PAUSE_S)

    def _answers(self) -> bool:
        assert self._run.daemon.poll() is None, self._run.daemon.last_words()
        try:
            return bool(self._host.status())
        except NoDaemon:
            return False

    def _published(self) -> dict[str, int]:
        return {
            f"{source} {event_type}": count
            for source, publisher in self._publishers.items()
            for event_type, count in publisher.published().items()
        }

    def _accounts(self) -> list[Account]:
        published = self._published()
        return [Account(*auditor.close(published)) for auditor in self._auditors]


def _plugins(folder: Path) -> Iterator[Path]:
    kinds = HERE / "plugins"
    yield from copies_of(kinds / "numberer", PUBLISHERS, folder)
    yield from copies_of(kinds / "auditor", len(PATTERNS), folder, HERE / "ledger.py")
