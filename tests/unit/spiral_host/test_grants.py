import os
import tomllib
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.permissions import Permissions, parse_permissions
from spiral_host import grants as module
from spiral_host.config import GRANTS
from spiral_host.consent import Grant
from spiral_host.grants import MAX_FILE, Grants, change, read, written

WEB = Grant(
    permissions=Permissions(network=(443,), read=("/srv/images",), gpu=True, publish=("A.*",)),
    manifest="sha256:00",
    version="1.0.0",
    when="2026-01-31T12:00:00+00:00",
)
NONE = Grant(permissions=Permissions(), manifest="sha256:01", version="2", when="now")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config"


def put(folder: Path, text: str | bytes) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / GRANTS
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


class TestWriting:
    def test_what_is_granted_can_be_read(self, folder: Path) -> None:
        """
        Each plugin's grant stands beside the others.
        """
        change(folder, "a.b-c", WEB)
        change(folder, "other", NONE)
        assert read(folder) == {"a.b-c": WEB, "other": NONE}

        change(folder, "a.b-c", NONE)
        assert read(folder) == {"a.b-c": NONE, "other": NONE}

        change(folder, "other", None)
        assert read(folder) == {"a.b-c": NONE}

    def test_nobody_else_can_read_it(self, folder: Path) -> None:
        change(folder, "a", WEB)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / GRANTS).stat().st_mode & 0o777 == 0o600
        assert [path.name for path in folder.iterdir()] == [GRANTS]

    def test_the_file_says_who_writes_it(self, folder: Path) -> None:
        change(folder, "a", WEB)
        assert "`spiral-host grant`" in (folder / GRANTS).read_text().splitlines()[0]

    def test_a_disk_that_is_full_changes_nothing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The file is whole, what was half written is gone, and the order is refused.
        """
        change(folder, "a", WEB)

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UsageError, match="No space left on device; nothing has changed"):
            change(folder, "a", NONE)
        assert read(folder) == {"a": WEB}
        assert [path.name for path in folder.iterdir()] == [GRANTS]

    def test_a_daemon_that_was_killed_at_it_hinders_nobody(self, folder: Path) -> None:
        """
        What it left is no file of ours to follow.
        """
        folder.mkdir(mode=0o700)
        (folder / module._NEW).symlink_to(folder / "victim")
        change(folder, "a", WEB)
        assert read(folder) == {"a": WEB}
        assert not (folder / "victim").exists()

    def test_what_cannot_be_read_is_not_written_over(self, folder: Path) -> None:
        """
        It may be somebody's work, with one bracket missing.
        """
        path = put(folder, "[broken")
        with pytest.raises(UsageError, match="is no TOML"):
            change(folder, "a", WEB)
        assert path.read_text() == "[broken"

    def test_a_folder_that_others_may_write_to_is_refused(self, folder: Path) -> None:
        folder.mkdir()
        folder.chmod(0o770)
        with pytest.raises(UsageError, match="chmod go-w"):
            change(folder, "a", WEB)
        assert not (folder / GRANTS).exists()

    def test_daemons_at_it_at_once_lose_nothing(self, folder: Path) -> None:
        """
        Each reads what the others have written before it writes.
        """
        names = [f"p{number}" for number in range(12)]
        threads = [Thread(target=change, args=(folder, name, WEB)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(read(folder)) == set(names)

    def test_what_could_not_be_read_again_is_not_written(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Else one large grant takes everybody theirs; taking away goes on.
        """
        change(folder, "a", WEB)
        monkeypatch.setattr(module, "MAX_FILE", len(written({"a": WEB})) + 10)
        with pytest.raises(UsageError, match="nothing has changed"):
            change(folder, "b", WEB)
        assert read(folder) == {"a": WEB}
        change(folder, "a", None)
        assert read(folder) == {}

    def test_nobody_has_a_grant_that_fills_the_file(self, folder: Path) -> None:
        paths = tuple(f"/{number}/{'x' * 4000}" for number in range(100))
        large = replace(WEB, permissions=Permissions(read=paths))
        with pytest.raises(UsageError, match="the grant of a would have more than"):
            change(folder, "a", large)
        assert not (folder / GRANTS).exists()

    @given(
        path=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20),
        ports=st.sets(st.integers(1, 65535), max_size=5),
        flag=st.booleans(),
    )
    def test_whatever_may_be_granted_is_written_exactly(
        self, path: str, ports: set[int], *, flag: bool
    ) -> None:
        """
        Quotation marks, backslashes and letters of every script.
        """
        path = path.replace("/", "")
        if path in ("", ".", ".."):
            return
        table = {"read": [f"/{path}"], "network": sorted(ports), "gpu": flag}
        grant = Grant(permissions=parse_permissions(table), manifest="m", version="v", when="w")
        (found,) = tomllib.loads(written({"a": grant})).values()
        assert parse_permissions(found["permissions"]) == grant.permissions


class TestReading:
    def test_without_a_file_nothing_is_granted(self, folder: Path) -> None:
        assert read(folder) == {}

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[a", "is no TOML"),
            (b"\xff", "is no TOML"),
            ("x = " + "[" * 5000, "is no TOML"),
            ("#" * (MAX_FILE + 1), "has more than"),
            ("a = 1", "a grant has"),
            ("[a]\nversion = '1'", "a grant has"),
            ("['../a']", "is no plugin id"),
            (written({"a": WEB}).replace("443", "70000"), r"\['a'.permissions\]: network: 70000"),
            (written({"a": WEB}).replace("gpu", "root"), "unknown permission 'root'"),
            (written({"a": WEB}).replace("/srv/images", "/srv/../etc"), "has a '..'"),
            (written({"a": WEB}).replace("1.0.0", "1" * 300), "is no short text"),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_a_broken_file_grants_nothing_and_names_the_cure(
        self, folder: Path, text: str | bytes, why: str
    ) -> None:
        put(folder, text)
        with pytest.raises(UsageError, match=why) as caught:
            read(folder)
        assert str(folder / GRANTS) in str(caught.value)
        assert "nothing is granted from it until that is mended" in str(caught.value)

    @pytest.mark.parametrize("mode", [0o620, 0o602])
    def test_one_that_others_may_write_to_grants_nothing(self, folder: Path, mode: int) -> None:
        put(folder, written({"a": WEB})).chmod(mode)
        with pytest.raises(UsageError, match=f"chmod go-w {folder / GRANTS}"):
            read(folder)

    def test_one_in_a_folder_that_others_may_write_to_grants_nothing(self, folder: Path) -> None:
        """
        They could put another file in its place.
        """
        put(folder, written({"a": WEB}))
        folder.chmod(0o777)
        with pytest.raises(UsageError, match=f"chmod go-w {folder}"):
            read(folder)

    def test_one_of_somebody_else_grants_nothing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(folder, written({"a": WEB}))
        stranger = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: stranger)
        with pytest.raises(UsageError, match=f"belongs to user {stranger - 1}, not to us"):
            read(folder)

    def test_a_link_and_a_pipe_grant_nothing(self, folder: Path, tmp_path: Path) -> None:
        """
        A link may lead to what somebody else writes; a pipe would keep us waiting.
        """
        real = put(folder, written({"a": WEB})).rename(tmp_path / "real")
        (folder / GRANTS).symlink_to(real)
        with pytest.raises(UsageError, match="nothing is granted"):
            read(folder)

        (folder / GRANTS).unlink()
        os.mkfifo(folder / GRANTS, 0o600)
        with pytest.raises(UsageError, match="is no plain file"):
            read(folder)


class TestGrants:
    def test_the_file_is_read_again_when_it_is_another(self, folder: Path) -> None:
        """
        Edited, replaced, removed: the next look knows.
        """
        grants = Grants(folder)
        grants.look()
        assert (grants.of("a"), grants.ids()) == (None, [])

        change(folder, "a", WEB)
        assert grants.of("a") is None
        grants.look()
        assert (grants.of("a"), grants.ids()) == (WEB, ["a"])

        (folder / GRANTS).unlink()
        grants.look()
        assert grants.of("a") is None

    def test_and_not_when_it_is_the_same(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change(folder, "a", WEB)
        grants = Grants(folder)
        grants.look()
        monkeypatch.setattr(module, "read", lambda _: pytest.fail("read again"))
        grants.look()
        assert grants.of("a") == WEB

    def test_what_was_granted_is_forgotten_when_the_file_breaks(self, folder: Path) -> None:
        """
        And known again once it is mended; meanwhile it says why.
        """
        change(folder, "a", WEB)
        grants = Grants(folder)
        grants.look()
        path = folder / GRANTS
        path.chmod(0o666)
        grants.look()
        assert grants.of("a") is None
        assert "chmod go-w" in grants.failure

        path.chmod(0o600)
        grants.look()
        assert (grants.of("a"), grants.failure) == (WEB, "")

    def test_the_cure_of_a_folder_helps_at_once(self, folder: Path) -> None:
        """
        The file is the same as before; who may put another in its place is not.
        """
        change(folder, "a", WEB)
        folder.chmod(0o777)
        grants = Grants(folder)
        grants.look()
        assert "chmod go-w" in grants.failure
        folder.chmod(0o700)
        grants.look()
        assert (grants.of("a"), grants.failure) == (WEB, "")

        folder.chmod(0o777)
        grants.look()
        assert grants.of("a") is None
