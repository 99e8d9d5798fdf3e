"""What the supervisor does with plugins that ask for more than they were granted."""

from pathlib import Path

import pytest

from protocol.messages import Permitted, SpawnWorker, StopPlugin
from protocol.permissions import EVERYONE, NOTHING, Permissions
from spiral_host.consent import Grant
from spiral_host.grants import change
from spiral_host.lifecycle import State
from spiral_host.manifest import Manifest
from spiral_host.policy import Memory
from spiral_host.real_paths import Followed, Grounds
from spiral_host.reconsidering import DECIDE_AGAIN_S
from spiral_host.store import Wanted
from tests.clock import Clock
from tests.hosts import eventually
from tests.unit.spiral_host.fakes import EPOCH, House, manifest

WEB = Permissions(network=(443,))
ASKS = manifest("asks", permissions=WEB)
USER = manifest("user", {"asks": ">=1.0"})
EARLIER = (EPOCH - 1) << 32 | 5


@pytest.fixture
def house(clock: Clock, tmp_path: Path) -> House:
    return House(clock, config_dir=tmp_path / "config")


def grant(house: House, permissions: Permissions = WEB) -> None:
    """Write a grant for the plugin, as it declares itself."""
    asked = house.permits.asked(ASKS)
    change(
        house.permits.grants.folder,
        "asks",
        Grant(permissions=permissions, manifest=asked.manifest, version="1.0.0", when="now"),
    )


def revoke(house: House) -> None:
    change(house.permits.grants.folder, "asks", None)


def spawned_with(house: House) -> list[object]:
    orders = [message for message in house.node.told if isinstance(message, SpawnWorker)]
    return [order.permissions for order in orders]


class TestStart:
    def test_without_consent_it_is_never_spawned(self, house: House) -> None:
        """
        It is blocked, with what it asks for and what to do; who needs it is blocked, too.
        """
        house.add(ASKS, USER)
        assert house.states() == {"asks": State.BLOCKED, "user": State.BLOCKED}
        assert spawned_with(house) == []
        reason = house.plugin("asks").lifecycle.reason
        assert reason.startswith("asks for network 443; ")
        assert "its dependency asks is blocked" in house.plugin("user").lifecycle.reason
        assert house.registry.settled()

    def test_others_do_not_notice(self, house: House) -> None:
        house.add(ASKS, manifest("other"))
        assert house.states()["other"] is State.STARTING
        assert spawned_with(house) == [EVERYONE.to_wire()]

    def test_it_is_asked_for_before_its_dependencies_are_there(self, house: House) -> None:
        """
        An operator learns of it at once, not when the last of them is ready.
        """
        house.add(manifest("base"), manifest("p", {"base": "*"}, permissions=WEB))
        assert house.states() == {"base": State.STARTING, "p": State.BLOCKED}

    def test_with_consent_it_is_spawned_with_what_is_in_force(self, house: House) -> None:
        grant(house)
        house.add(ASKS)
        assert spawned_with(house) == [WEB.to_wire()]
        assert house.plugin("asks").permissions == WEB

    def test_a_grant_starts_it_and_those_who_need_it(self, house: House) -> None:
        house.add(ASKS, USER)
        grant(house)
        house.supervisor.reconsider("asks")
        house.load("asks")
        assert house.states() == {"asks": State.READY, "user": State.STARTING}

    def test_it_is_decided_again_at_each_start(self, house: House) -> None:
        """
        What was taken away while it ran keeps it from coming back after a crash.
        """
        grant(house)
        house.add_ready(ASKS)
        revoke(house)
        house.end("asks")
        house.reactor.pass_time(10.0)
        assert house.states() == {"asks": State.BLOCKED}

    def test_a_person_who_says_restart_has_it_decided_again(self, house: House) -> None:
        """
        After the file was edited by hand, say.
        """
        house.add(ASKS)
        grant(house)
        house.supervisor.advance()
        assert house.states() == {"asks": State.BLOCKED}
        house.supervisor.restart("asks")
        assert house.states() == {"asks": State.STARTING}

    def test_a_new_version_that_asks_for_more_stops(self, house: House) -> None:
        grant(house)
        house.add_ready(ASKS)
        more = Permissions(network=(443,), gpu=True)
        house.supervisor.restart("asks", manifest("asks", version="2.0.0", permissions=more))
        house.end("asks")
        assert house.states() == {"asks": State.BLOCKED}
        reason = house.plugin("asks").lifecycle.reason
        assert reason.startswith("asks for more than was granted to version 1.0.0: gpu; ")

    def test_one_that_asks_for_no_more_goes_on(self, house: House) -> None:
        grant(house)
        house.add_ready(ASKS)
        house.supervisor.restart("asks", manifest("asks", version="2.0.0", permissions=WEB))
        house.end("asks")
        assert house.states() == {"asks": State.STARTING}


class TestReconsider:
    def test_what_was_revoked_stops_in_order_and_is_blocked(self, house: House) -> None:
        grant(house)
        house.add_ready(ASKS)
        revoke(house)
        house.supervisor.reconsider("asks")
        assert house.states() == {"asks": State.DRAINING}
        assert (house.incarnation("asks"), StopPlugin()) in house.node.relayed()
        house.end("asks")
        assert house.states() == {"asks": State.BLOCKED}
        assert house.plugin("asks").lifecycle.restarts == 0

    def test_one_that_runs_with_less_is_restarted_with_more(self, house: House) -> None:
        wide = Permissions(network=(443,), gpu=True)
        asks = manifest("asks", permissions=wide)
        digest = house.permits.asked(asks).manifest
        folder = house.permits.grants.folder
        for part in (WEB, wide):
            change(
                folder, "asks", Grant(permissions=part, manifest=digest, version="1", when="now")
            )
            if part is WEB:
                house.add_ready(asks)
                assert house.plugin("asks").permissions == WEB
        house.supervisor.reconsider("asks")
        house.end("asks")
        assert spawned_with(house) == [WEB.to_wire(), wide.to_wire()]

    def test_one_for_which_nothing_changes_goes_on(self, house: House) -> None:
        grant(house)
        house.add_ready(ASKS)
        grant(house)
        house.supervisor.reconsider("asks")
        assert house.states() == {"asks": State.READY}

    def test_one_in_quarantine_is_tried_with_more(self, house: House) -> None:
        """
        What it lacked may have been what broke it.
        """
        wide = manifest("asks", permissions=Permissions(network=(443,), gpu=True))
        digest = house.permits.asked(wide).manifest
        part = Grant(permissions=WEB, manifest=digest, version="1", when="now")
        change(house.permits.grants.folder, "asks", part)
        house.add(wide)
        house.confine("asks")
        house.break_("asks")
        assert house.states() == {"asks": State.QUARANTINED}
        house.supervisor.reconsider("asks")
        assert house.states() == {"asks": State.QUARANTINED}

        whole = Grant(
            permissions=Permissions(network=(443,), gpu=True),
            manifest=digest,
            version="1",
            when="now",
        )
        change(house.permits.grants.folder, "asks", whole)
        house.supervisor.reconsider("asks")
        assert house.states() == {"asks": State.STARTING}

    def test_nobody_is_restarted_who_leaves_or_is_not_there(self, house: House) -> None:
        grant(house)
        house.add_ready(ASKS)
        house.supervisor.stop("asks")
        revoke(house)
        house.supervisor.reconsider("asks")
        house.supervisor.reconsider("nobody")
        house.end("asks")
        assert house.states() == {}


class TestTakeover:
    def adopt(self, house: House) -> None:
        house.supervisor.remember(Wanted(ASKS, Memory(), EARLIER, leaving=False))
        reports = [house.report("asks", EARLIER)]
        kept = house.supervisor.adopt(reports)
        house.supervisor.permitted(Permitted(EARLIER, WEB.to_wire()))
        house.supervisor.loaded(EARLIER)
        house.supervisor.resume(kept)

    def test_what_was_granted_goes_on(self, house: House) -> None:
        """
        The grant is in the operator's file, not in the daemon that was killed.
        """
        grant(house)
        self.adopt(house)
        assert house.states() == {"asks": State.READY}
        assert house.plugin("asks").permissions == WEB

    def test_what_was_taken_away_meanwhile_leaves_in_order(self, house: House) -> None:
        self.adopt(house)
        assert house.states() == {"asks": State.DRAINING}
        house.end("asks")
        assert house.states() == {"asks": State.BLOCKED}

    def test_what_has_no_worker_is_blocked_again(self, house: House) -> None:
        house.supervisor.remember(Wanted(ASKS, Memory(), 0, leaving=False))
        house.supervisor.resume([])
        assert house.states() == {"asks": State.BLOCKED}


class TestSlowDisk:
    """The plugin's paths lead to a disk that does not answer yet."""

    @pytest.fixture
    def slow(self, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
        """A plugin with a grant; what its grounds say from now on is that nothing is known."""
        (tmp_path / "images").mkdir()
        asks = manifest("slow", permissions=Permissions(read=(str(tmp_path / "images"),)))
        assert eventually(lambda: not house.permits.asked(asks).unknown)
        digest = house.permits.asked(asks).manifest
        assert asks.permissions is not None
        granted = Grant(permissions=asks.permissions, manifest=digest, version="1", when="now")
        change(house.permits.grants.folder, "slow", granted)
        monkeypatch.setattr(Grounds, "follow", self.unknown)
        return asks

    @staticmethod
    def unknown(_grounds: Grounds, permissions: Permissions, _: str = "") -> Followed:
        return Followed(permissions, unknown=permissions.read)

    @staticmethod
    def known(_grounds: Grounds, permissions: Permissions, _: str = "") -> Followed:
        return Followed(permissions)

    def test_it_starts_once_the_disk_answers(
        self, house: House, slow: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        By itself: nobody has to say anything.
        """
        house.add(slow)
        assert house.states() == {"slow": State.BLOCKED}
        house.reactor.pass_time(5.0)
        assert house.states() == {"slow": State.BLOCKED}
        monkeypatch.setattr(Grounds, "follow", self.known)
        house.reactor.pass_time(DECIDE_AGAIN_S)
        assert house.states() == {"slow": State.STARTING}

    def adopt(self, house: House, slow: Manifest) -> None:
        house.supervisor.remember(Wanted(slow, Memory(), EARLIER, leaving=False))
        kept = house.supervisor.adopt([house.report("slow", EARLIER)])
        had = slow.permissions or NOTHING
        house.supervisor.permitted(Permitted(EARLIER, had.to_wire()))
        house.supervisor.loaded(EARLIER)
        house.supervisor.resume(kept)

    def test_what_lives_goes_on_under_another_daemon(
        self, house: House, slow: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        And is known to have what it has once the disk answers.
        """
        self.adopt(house, slow)
        assert house.states() == {"slow": State.READY}
        monkeypatch.setattr(Grounds, "follow", self.known)
        house.reactor.pass_time(DECIDE_AGAIN_S)
        assert house.states() == {"slow": State.READY}
        assert house.plugin("slow").permissions == slow.permissions

    def test_unless_it_turns_out_to_have_lost_its_grant(
        self, house: House, slow: Manifest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.adopt(house, slow)
        change(house.permits.grants.folder, "slow", None)
        monkeypatch.setattr(Grounds, "follow", self.known)
        house.reactor.pass_time(DECIDE_AGAIN_S)
        assert house.states() == {"slow": State.DRAINING}
