import os
from pathlib import Path

import pytest

from protocol.errors import UsageError
from protocol.limits import NO_CAPS
from protocol.permissions import EVERYONE, NOTHING
from spiral_host import operator as module
from spiral_host.config import DaemonConfig, default_config_dir
from spiral_host.operator import MAX_FILE, Operator, read_operator


class TestReading:
    def test_without_a_file_it_is_as_shipped(self, tmp_path: Path) -> None:
        """
        Nobody has to write anything.
        """
        assert read_operator(tmp_path / "nowhere") == Operator()
        assert (Operator().everyone, Operator().caps) == (EVERYONE, NO_CAPS)

    def test_what_the_operator_decides(self, tmp_path: Path) -> None:
        """
        Profile, what everyone is granted, and caps.
        """
        text = '[sandbox]\nprofile = "strict"\nbest_effort = true\n[everyone]\n'
        (tmp_path / "spiral.toml").write_text(text + '[limits]\nmemory = "1 GiB"\n')

        operator = read_operator(tmp_path)

        assert (operator.sandbox, operator.best_effort) == ("strict", True)
        assert operator.everyone == NOTHING
        assert (operator.caps.memory, operator.caps.cpu) == (1 << 30, NO_CAPS.cpu)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (b"[sandbox", "is no TOML"),
            (b"\xff", "is no TOML"),
            (b"[grants]", "unknown table 'grants'; known: sandbox, everyone, limits"),
            (b'[sandbox]\nprofile = "none"', "no profile 'none'"),
            (b"[sandbox]\nbest_effort = 1", "best_effort is true or false"),
            (b"[sandbox]\nx = 1", "nothing else"),
            (b"[everyone]\nread = 1", "[everyone]: read = 1 is no list"),
            (b"everyone = 1", "[everyone]: 1 is no table"),
            (b"[limits]\nmemory = 1", "[limits]: memory = 1 is no size"),
            (b"#" * (MAX_FILE + 1), f"has more than {MAX_FILE} bytes"),
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_what_cannot_be_meant_names_the_file(
        self, tmp_path: Path, text: bytes, why: str
    ) -> None:
        """
        A daemon does not start on a file that it does not understand.
        """
        (tmp_path / "spiral.toml").write_bytes(text)

        with pytest.raises(UsageError) as caught:
            read_operator(tmp_path)

        assert str(caught.value).startswith(f"{tmp_path}/spiral.toml: ")
        assert why in str(caught.value)

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        """
        What cannot be read is not the same as what is not there.
        """
        (tmp_path / "spiral.toml").mkdir()

        with pytest.raises(UsageError, match="cannot be read"):
            read_operator(tmp_path)


class TestFilling:
    def test_a_command_goes_before_the_file(self) -> None:
        """
        The file fills in only what nobody has said.
        """
        operator = Operator(sandbox="strict", best_effort=True)
        silent = DaemonConfig(run_dir=Path("/r"))
        loud = DaemonConfig(run_dir=Path("/r"), sandbox="off", best_effort=False)

        assert (operator.fill(silent).sandbox, operator.fill(silent).best_effort) == (
            "strict",
            True,
        )
        assert operator.fill(loud) == loud


def test_where_the_operator_s_files_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Among the user's settings, unless a variable says otherwise.
    """
    monkeypatch.delenv("SPIRAL_HOST_CONFIG_DIR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert default_config_dir() == Path("/x/spiral-host")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert default_config_dir() == Path("/h/.config/spiral-host")
    monkeypatch.setenv("SPIRAL_HOST_CONFIG_DIR", "/c")
    assert default_config_dir() == Path("/c")


class TestTrust:
    """Whoever can write the file decides for every plugin."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "config").mkdir(mode=0o700)
        file = tmp_path / "config" / "spiral.toml"
        file.write_text("[sandbox]")
        file.chmod(0o600)
        return file

    @pytest.mark.parametrize("place", ["file", "folder"])
    def test_what_others_may_write_to_is_not_believed(self, file: Path, place: str) -> None:
        """
        A daemon does not start on it; the text names the cure.
        """
        path = file if place == "file" else file.parent
        path.chmod(path.stat().st_mode | 0o020)
        with pytest.raises(UsageError, match=f"chmod go-w {path}$"):
            read_operator(file.parent)

    def test_nor_where_a_link_leads_to(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "dots").mkdir(mode=0o700)
        file.rename(tmp_path / "dots/mine.toml")
        file.symlink_to(tmp_path / "dots/mine.toml")
        assert read_operator(file.parent) == Operator()
        (tmp_path / "dots").chmod(0o777)
        with pytest.raises(UsageError, match=f"chmod go-w {tmp_path / 'dots'}$"):
            read_operator(file.parent)

    def test_nor_what_is_somebody_elses(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The administrator's is.
        """
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        monkeypatch.setattr(module, "_ROOT", owner)
        assert read_operator(file.parent) == Operator()
        monkeypatch.setattr(module, "_ROOT", owner + 2)
        with pytest.raises(UsageError, match=f"belongs to user {owner}, not to us"):
            read_operator(file.parent)
