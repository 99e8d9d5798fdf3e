"""What becomes of `grant`, `revoke` and `permissions` in the daemon."""

from pathlib import Path
from typing import Any

import pytest

from protocol.messages import GrantPermissions, ListPermissions, RevokePermissions, ShutDown
from protocol.permissions import EVERYONE, Permissions
from spiral_host.config import GRANTS
from spiral_host.granting import Granting
from spiral_host.grants import read
from spiral_host.lifecycle import State
from spiral_host.orders import Orders
from spiral_host.refusals import Refusals
from tests.clock import Clock
from tests.unit.spiral_host.fakes import Desk, House, manifest

WEB = Permissions(network=(80, 443))
ASKS = manifest("asks", permissions=WEB)


class Office:
    """A house that takes orders about permissions."""

    def __init__(self, house: House) -> None:
        self.house, self.desk = house, Desk()
        self.remembered: dict[str, Any] = {}
        self.refusals = Refusals()
        self.folder = house.permits.grants.folder
        self.reopen()

    def reopen(self) -> None:
        """Take orders anew, with what the store remembers."""
        house = self.house
        write, publish = house.outside.write, house.outside.publish
        self.orders = Orders(
            house.registry, house.supervisor, self.remembered, write, publish, lambda: None
        )
        house.outside.look_again.append(self.orders.look_again)
        self.granting = Granting(
            house.registry,
            house.supervisor,
            house.permits,
            self.refusals,
            self.orders,
            self.remembered,
            house.outside,
        )

    def grant(
        self,
        plugin_id: str = "asks",
        part: object = None,
        *,
        request: str = "g1",
        digest: str = "",
    ) -> None:
        order = GrantPermissions(request, plugin_id, part, digest)  # type: ignore[arg-type]
        self.granting.give(self.desk.asker, order)

    def revoke(self, plugin_id: str = "asks", *, request: str = "r1") -> None:
        self.granting.give(self.desk.asker, RevokePermissions(request, plugin_id))

    def show(self, plugin_id: str = "") -> list[dict[str, Any]]:
        self.granting.give(self.desk.asker, ListPermissions("l1", plugin_id))
        value = self.desk.value()
        assert isinstance(value, list)
        return value

    def answered(self) -> dict[str, Any]:
        """Give the one row of the one answer."""
        value = self.desk.value()
        assert isinstance(value, list)
        (row,) = value
        assert isinstance(row, dict)
        return row

    def audited(self) -> list[tuple[object, object]]:
        return [(line["kind"], line["permissions"]) for line in self.house.outside.audited]


@pytest.fixture
def office(clock: Clock, tmp_path: Path) -> Office:
    return Office(House(clock, config_dir=tmp_path / "config"))


class TestGrant:
    def test_it_is_written_and_the_plugin_starts(self, office: Office) -> None:
        """
        Answered once the plugin is ready; the audit log says who granted what.
        """
        office.house.add(ASKS)
        office.grant()
        (grant,) = read(office.folder).values()
        assert (grant.permissions, grant.version) == (WEB, "1.0.0")
        assert office.desk.replies == []

        office.house.load("asks")
        row = office.answered()
        assert (row["state"], row["in_force"]) == ("ready", WEB.to_wire())
        assert office.audited() == [("granted", ["network 80", "network 443"])]
        assert office.house.outside.audited[0]["by"] == "app:test"

    def test_a_part_of_it_is_enough(self, office: Office) -> None:
        office.house.add(ASKS)
        office.grant(part={"network": [443]})
        office.house.load("asks")
        row = office.answered()
        assert (row["state"], row["in_force"]) == ("ready", {"network": [443]})

    @pytest.mark.parametrize(
        ("plugin_id", "part", "why"),
        [
            ("asks", {"network": [444]}, "asks does not ask for network 444"),
            ("asks", {"gpu": True}, "asks does not ask for gpu"),
            ("asks", {"root": True}, "unknown permission 'root'"),
            ("asks", {"read": ["/a/../b"]}, "has a '..'"),
            ("asks", {"read": ["/nowhere"]}, "no plugin gets read /nowhere: it does not exist"),
            ("plain", None, "plain asks for nothing of its own"),
            ("lost", None, "no plugin gets: read /nowhere: it does not exist"),
            ("nobody", None, "no plugin 'nobody' is loaded"),
            ("../x", None, "is no plugin id"),
        ],
    )
    def test_what_cannot_be_granted(
        self, office: Office, plugin_id: str, part: object, why: str
    ) -> None:
        """
        It is refused with the reason, and nothing is written.
        """
        lost = manifest("lost", permissions=Permissions(read=("/nowhere",)))
        office.house.add(ASKS, manifest("plain"), lost)
        office.grant(plugin_id, part)
        assert why in office.desk.refusal()
        assert read(office.folder) == {}
        assert office.remembered == {}

    @pytest.mark.parametrize("part", [None, {"read": []}], ids=["all", "a part"])
    def test_what_has_changed_since_it_was_shown_is_not_granted(
        self, office: Office, tmp_path: Path, part: object
    ) -> None:
        """
        Neither a manifest that declares something else, nor a link that was turned round.
        """
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "one")
        office.house.add(manifest("asks", permissions=Permissions(read=(str(link),))))
        (shown,) = office.show("asks")
        link.unlink()
        link.symlink_to(tmp_path / "two")
        office.grant(part=part, digest=shown["digest"])
        assert "has changed since it was shown; look again" in office.desk.refusal()
        assert read(office.folder) == {}

        (shown,) = office.show("asks")
        office.grant(part=part, digest=shown["digest"], request="g2")
        assert read(office.folder).keys() == {"asks"}

    def test_a_file_that_is_broken_is_not_written_over(self, office: Office) -> None:
        office.house.add(ASKS)
        office.folder.mkdir(mode=0o700)
        (office.folder / GRANTS).write_text("[")
        office.grant()
        assert "is no TOML" in office.desk.refusal()
        assert (office.folder / GRANTS).read_text() == "["

    def test_a_disk_that_takes_nothing_changes_nothing(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        It stays blocked, and the same order may be given again.
        """
        from spiral_host import grants

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        office.house.add(ASKS)
        monkeypatch.setattr(grants, "_replace", full)
        office.grant()
        assert "No space left on device" in office.desk.refusal()
        assert office.house.states() == {"asks": State.BLOCKED}
        assert office.audited() == []

        monkeypatch.undo()
        office.grant()
        assert office.house.states() == {"asks": State.STARTING}

    def test_a_daemon_that_stops_grants_nothing(self, office: Office) -> None:
        office.house.add(ASKS)
        office.orders.give(office.desk.asker, ShutDown("x"))
        office.desk.replies.clear()
        office.grant()
        assert "the daemon is stopping" in office.desk.refusal()


class TestRevoke:
    def test_it_stops_and_is_blocked(self, office: Office) -> None:
        """
        Answered once it has left.
        """
        office.house.add(ASKS)
        office.grant()
        office.house.load("asks")
        office.desk.take()
        office.revoke()
        assert office.house.states() == {"asks": State.DRAINING}
        assert office.desk.replies == []
        office.house.end("asks")
        row = office.answered()
        assert (row["state"], row["in_force"]) == ("blocked", {})
        assert read(office.folder) == {}
        assert [kind for kind, _ in office.audited()] == ["granted", "revoked"]

    def test_one_that_is_not_loaded_loses_its_grant_too(self, office: Office) -> None:
        office.house.add(ASKS)
        office.grant()
        office.house.supervisor.stop("asks")
        office.house.end("asks")
        office.desk.replies.clear()
        office.revoke()
        assert office.desk.value() == []
        assert read(office.folder) == {}

    def test_of_nothing_is_refused(self, office: Office) -> None:
        office.house.add(ASKS)
        office.revoke()
        assert "asks was granted nothing; granted something: nobody" in office.desk.refusal()


class TestOnce:
    def test_an_order_under_way_is_carried_out_once(self, office: Office) -> None:
        """
        A client that lost its connection asks again; the first order answers it.
        """
        office.house.outside.is_away = True
        office.house.add(ASKS)
        office.grant()
        office.grant()
        (work,) = office.house.outside.begun
        work()
        assert len(office.audited()) == 1

    def test_one_that_was_carried_out_is_not_again(self, office: Office) -> None:
        """
        Nor by the next daemon; somebody may have revoked it since.
        """
        office.house.add(ASKS)
        office.grant()
        office.house.load("asks")
        office.desk.take()
        office.revoke()
        office.house.end("asks")
        office.desk.take()

        office.reopen()
        office.grant()
        office.revoke()
        assert len(office.desk.replies) == 2
        assert office.house.states() == {"asks": State.BLOCKED}
        assert len(office.audited()) == 2

    def test_a_revoke_that_was_half_done_is_finished(self, office: Office) -> None:
        """
        The file was written, and the daemon killed before it could say so.
        """
        office.house.add(ASKS)
        office.remembered["r1"] = {"permissions_of": "asks", "done": False}
        office.revoke()
        row = office.answered()
        assert row["state"] == "blocked"


class TestShow:
    def test_asked_granted_and_in_force(self, office: Office) -> None:
        office.house.add(ASKS, manifest("plain"))
        office.refusals.note("asks", "read", "/etc/passwd", office.house.clock.monotonic() - 2.0)
        asks, plain = office.show()
        assert (asks["id"], asks["state"], asks["declares"]) == ("asks", "blocked", True)
        assert (asks["asked"], asks["lacking"]) == (WEB.to_wire(), WEB.to_wire())
        assert (asks["granted"], asks["in_force"]) == (EVERYONE.to_wire(), {})
        assert asks["consented"] is None
        assert asks["refused"] == [
            {"permission": "read", "what": "/etc/passwd", "count": 1, "ago_s": 2.0}
        ]
        assert plain["declares"] is False
        assert plain["in_force"] == EVERYONE.to_wire()

    def test_where_links_lead_and_what_no_plugin_gets(self, office: Office, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        asks = Permissions(read=(str(tmp_path / "link"), "/nowhere"))
        office.house.add(manifest("p", permissions=asks))
        (row,) = office.show("p")
        assert row["leads"] == {str(tmp_path / "link"): str(tmp_path / "real")}
        assert row["impossible"] == ["read /nowhere: it does not exist"]
        assert row["in_force"] == {}

    def test_what_runs_has_what_it_was_started_with(self, office: Office) -> None:
        """
        Whatever the file says since.
        """
        office.house.add(ASKS)
        office.grant()
        office.house.load("asks")
        office.desk.take()
        (office.folder / GRANTS).unlink()
        (row,) = office.show("asks")
        assert (row["granted"], row["in_force"]) == (EVERYONE.to_wire(), WEB.to_wire())

    def test_of_nobody_is_refused(self, office: Office) -> None:
        office.granting.give(office.desk.asker, ListPermissions("l1", "nobody"))
        assert "no plugin 'nobody' is loaded" in office.desk.refusal()
