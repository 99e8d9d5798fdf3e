from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from protocol.messages import PluginSource
from protocol.permissions import EVERYONE, NOTHING, Permissions
from spiral_host import real_paths
from spiral_host.config import GRANTS
from spiral_host.consent import Grant
from spiral_host.grants import Grants, change
from spiral_host.manifest import Manifest
from spiral_host.permits import Permits
from spiral_host.real_paths import Grounds
from tests.hosts import eventually
from tests.unit.spiral_host.fakes import manifest

WEB = Permissions(network=(443,))
MORE = Permissions(network=(443,), gpu=True)
ASKS = manifest("p", permissions=WEB)


class Desk:
    """The permissions of one daemon, and what it has told of them."""

    def __init__(self, folder: Path, everyone: Permissions = EVERYONE) -> None:
        self.config = folder / "config"
        self.told: list[tuple[str, str, list[str]]] = []
        grounds = Grounds(folder / "data", (self.config,))
        self.permits = Permits(Grants(self.config), everyone, grounds, self._tell)

    def _tell(self, kind: str, manifest: Manifest, words: Sequence[str]) -> None:
        self.told.append((kind, manifest.metadata.version, list(words)))

    def grant(self, manifest: Manifest, permissions: Permissions | None = None) -> None:
        """Write a grant, as any daemon may."""
        asked = self.permits.asked(manifest)
        given = permissions or asked.permissions
        assert given is not None
        grant = Grant(permissions=given, manifest=asked.manifest, version="1.0.0", when="now")
        change(self.config, manifest.id, grant)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_one_that_asks_for_nothing_of_its_own_gets_what_everyone_gets(desk: Desk) -> None:
    assert desk.permits.decide(manifest("p")) == ""
    assert desk.permits.in_force("p") == EVERYONE
    assert desk.told == []


def test_nothing_is_in_force_of_one_that_may_not_start(desk: Desk) -> None:
    """
    Not even what everyone gets; nor of one that nobody has looked at.
    """
    both = manifest("p", permissions=replace(WEB, services=("math",)))
    assert desk.permits.in_force("p") == NOTHING
    assert "network 443" in desk.permits.decide(both)
    assert desk.permits.in_force("p") == NOTHING


def test_what_was_decided_holds_until_it_starts(desk: Desk) -> None:
    """
    Nobody looks at the disk again and again for what is blocked.
    """
    assert desk.permits.objection(ASKS)
    desk.grant(ASKS)
    assert desk.permits.objection(ASKS)
    assert not desk.permits.decide(ASKS)
    assert not desk.permits.objection(ASKS)
    assert desk.permits.in_force("p") == WEB


def test_it_can_be_decided_anew(desk: Desk) -> None:
    assert desk.permits.objection(ASKS)
    desk.grant(ASKS)
    desk.permits.look_again("p")
    assert not desk.permits.objection(ASKS)


def test_a_link_that_was_turned_round_is_another_place(desk: Desk, tmp_path: Path) -> None:
    """
    It was granted where the link led; where it leads now was not.
    """
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    asks = manifest("p", permissions=Permissions(read=(str(link),)))
    desk.grant(asks)
    assert not desk.permits.decide(asks)

    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert f"read {tmp_path / 'two'}" in desk.permits.decide(asks)


def test_a_narrower_grant_does_not_outlive_a_link(desk: Desk, tmp_path: Path) -> None:
    """
    Less was granted to a manifest whose paths led elsewhere.
    """
    (tmp_path / "one").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "one")
    asks = manifest("p", permissions=Permissions(read=(str(link),), gpu=True))
    desk.grant(asks, Permissions(gpu=True))
    assert not desk.permits.decide(asks)
    assert desk.permits.in_force("p") == Permissions(gpu=True)

    (tmp_path / "two").mkdir()
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert desk.permits.decide(asks)


def test_each_decision_is_told_of_once(desk: Desk) -> None:
    """
    However often the plugin is restarted; another decision is news again.
    """
    for _ in range(2):
        desk.permits.decide(ASKS)
    assert desk.told == [("blocked", "1.0.0", ["network 443"])]

    desk.grant(ASKS)
    newer = manifest("p", version="2.0.0", permissions=WEB)
    wider = manifest("p", version="3.0.0", permissions=MORE)
    for one in (ASKS, newer, newer, wider, wider, newer):
        desk.permits.decide(one)
    assert desk.told[1:] == [
        ("changed", "2.0.0", ["network 443"]),
        ("blocked", "3.0.0", ["gpu"]),
        ("changed", "2.0.0", ["network 443"]),
    ]


def test_what_is_forgotten_is_told_of_again(desk: Desk) -> None:
    """
    One that was unloaded and is loaded again is another.
    """
    desk.permits.decide(ASKS)
    desk.permits.forget("p")
    desk.permits.forget("nobody")
    desk.permits.decide(ASKS)
    assert len(desk.told) == 2


def test_what_everyone_gets_is_followed_too(tmp_path: Path) -> None:
    """
    The host's own folders go to nobody, and the operator is told what has no effect.
    """
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    (tmp_path / "config").mkdir(mode=0o700)
    paths = (str(tmp_path / "link"), str(tmp_path / "config"), "/nowhere/at/all")
    desk = Desk(tmp_path, Permissions(read=paths))
    desk.permits.decide(manifest("p"))
    assert desk.permits.in_force("p") == Permissions(read=(str(tmp_path / "images"),))
    (alarm,) = desk.permits.alarms
    assert "[everyone] gets no read" in alarm
    assert "/nowhere/at/all: it does not exist" in alarm


def test_a_broken_file_grants_nothing_and_is_an_alarm(desk: Desk) -> None:
    desk.grant(ASKS)
    (desk.config / GRANTS).write_text("[")
    assert desk.permits.decide(ASKS)
    assert not desk.permits.decide(manifest("other"))
    (alarm,) = desk.permits.alarms
    assert "is no TOML" in alarm


@pytest.mark.parametrize("permissions", [None, WEB])
def test_code_from_which_the_hosts_folders_can_be_read(
    desk: Desk, permissions: Permissions | None
) -> None:
    """
    No grant helps: the plugin is blocked until it lies elsewhere.
    """
    source = PluginSource(root=str(desk.config / "p"), entry="p:P")
    inside = replace(manifest("p", permissions=permissions), source=source)
    assert "it lies in a folder of the host's own" in desk.permits.decide(inside)
    assert desk.permits.in_force("p") == NOTHING


class TestUnknown:
    """A disk that does not answer yet."""

    @pytest.fixture
    def asks(self, desk: Desk, tmp_path: Path) -> Manifest:
        (tmp_path / "images").mkdir()
        asks = manifest("p", permissions=Permissions(read=(str(tmp_path / "images"),)))
        assert eventually(lambda: not desk.permits.asked(asks).unknown)
        desk.grant(asks)
        return asks

    @pytest.fixture
    def hangs(
        self, asks: Manifest, impatient: None, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Event]:
        """Set once it answers."""
        assert asks.permissions is not impatient
        answers, real = Event(), real_paths._asked_of_kernel

        def slow(path: str) -> str:
            assert answers.wait(10.0)
            return real(path)

        monkeypatch.setattr(real_paths, "_asked_of_kernel", slow)
        yield answers
        answers.set()

    def test_nothing_is_decided_yet(self, desk: Desk, asks: Manifest, hangs: Event) -> None:
        """
        It may not start, nobody is told that it was blocked, and another look decides.
        """
        why = desk.permits.decide(asks)
        assert "nobody knows yet where it leads" in why
        assert (desk.permits.in_force("p"), desk.told) == (NOTHING, [])
        assert desk.permits.undecided == {"p"}
        assert desk.permits.look(asks).lacking == NOTHING

        hangs.set()
        assert eventually(lambda: not desk.permits.decide(asks))
        assert desk.permits.undecided == set()
        assert desk.permits.in_force("p") == asks.permissions
        assert desk.told == []

    @pytest.mark.usefixtures("hangs")
    def test_what_was_never_granted_is_refused_all_the_same(
        self, desk: Desk, asks: Manifest
    ) -> None:
        """
        No slow disk keeps from its end what lost its grant.
        """
        change(desk.config, "p", None)
        assert desk.permits.decide(asks).startswith("asks for read ")
        assert desk.permits.undecided == set()

    def test_others_are_decided(self, desk: Desk, asks: Manifest, hangs: Event) -> None:
        assert desk.permits.decide(asks)
        assert not hangs.is_set()
        assert not desk.permits.decide(manifest("other"))

    @pytest.mark.usefixtures("asks", "hangs")
    def test_what_everyone_gets_is_not_taken_for_less(self, tmp_path: Path) -> None:
        """
        Who asks for no path does not mind; everybody else is decided of once it answers.
        """
        desk = Desk(tmp_path, Permissions(read=(str(tmp_path / "images"),), network=(443,)))
        assert not desk.permits.decide(ASKS)
        assert "nobody knows yet" in desk.permits.decide(manifest("q"))
        (alarm,) = desk.permits.alarms
        assert "its disk does not answer" in alarm
