import os
from pathlib import Path

import pytest

from protocol.errors import UsageError
from spiral_host.config import LONGEST_SOCKET, MAX_SOCKET_PATH, DaemonConfig, default_run_dir


class TestDaemonConfig:
    def test_data_lies_in_the_run_directory_unless_told(self) -> None:
        """
        Plugins' data follows the run, or the operator's choice.
        """
        assert DaemonConfig(run_dir=Path("/r")).data == Path("/r/data")
        assert DaemonConfig(run_dir=Path("/r"), data_dir=Path("/d")).data == Path("/d")

    def test_an_unknown_sandbox_is_refused(self) -> None:
        """
        A word that is not known must not come to mean less confinement.
        """
        with pytest.raises(UsageError, match="choose one of standard, strict, off"):
            DaemonConfig(run_dir=Path("/r"), sandbox="none")

    def test_a_path_has_to_fit_a_socket(self) -> None:
        """
        A run directory one byte too long says so; the longest that fits is taken.
        """
        room = MAX_SOCKET_PATH - len(LONGEST_SOCKET) - 1
        DaemonConfig(run_dir=Path("/" + "x" * (room - 1)))

        with pytest.raises(UsageError, match="is 1 bytes too long"):
            DaemonConfig(run_dir=Path("/" + "x" * room))


class TestAlone:
    @pytest.mark.parametrize("patience", [0.0, -1.0, 0.5, float("nan"), float("inf")])
    def test_a_node_is_left_alone_for_some_time(self, patience: float) -> None:
        """
        One that could not wait for its first daemon would never do anything.
        """
        with pytest.raises(UsageError, match="choose 1 or more"):
            DaemonConfig(run_dir=Path("/r"), alone_s=patience)


class TestDefaultRunDir:
    @pytest.mark.parametrize(
        ("named", "session", "expected"),
        [
            ("/named", "/session", "/named"),
            ("", "/session", "/session/spiral-host"),
            ("", "", f"/tmp/spiral-host-{os.getuid()}"),
        ],
    )
    def test_it_is_the_users_own(
        self, monkeypatch: pytest.MonkeyPatch, named: str, session: str, expected: str
    ) -> None:
        """
        What the user named, else the session's folder, else one of the user's in /tmp.
        """
        monkeypatch.setenv("SPIRAL_HOST_RUN_DIR", named)
        monkeypatch.setenv("XDG_RUNTIME_DIR", session)

        assert default_run_dir() == Path(expected)
