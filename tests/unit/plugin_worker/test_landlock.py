import ctypes
import os
import threading
from pathlib import Path

import pytest

from plugin_worker.sandbox import landlock
from plugin_worker.sandbox.policy import GPU_READ, LANDLOCK_MINIMUM, LISTED

NO_NEW_PRIVS = 38


@pytest.mark.skipif(landlock.abi() < LANDLOCK_MINIMUM, reason="no Landlock, or too old a one")
def test_of_a_listed_folder_only_names_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What lies in it cannot be opened, unless it is a device that is named by itself.
    """
    for name in ("card0", "renderD128"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(landlock, "LISTED", frozenset({str(tmp_path)}))
    found: list[object] = []

    def confined() -> None:
        ctypes.CDLL(None).prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
        landlock.restrict(
            landlock.Reach(read=(str(tmp_path),), devices=(str(tmp_path / "renderD128"),))
        )
        found.append(sorted(os.listdir(tmp_path)))  # noqa: PTH208 - as libdrm does
        found.append((tmp_path / "renderD128").read_text())
        try:
            found.append((tmp_path / "card0").read_text())
        except PermissionError:
            found.append("refused")

    # Landlock confines one thread, for as long as that lives.
    thread = threading.Thread(target=confined)
    thread.start()
    thread.join()
    assert found == [["card0", "renderD128"], "renderD128", "refused"]


def test_the_folder_of_screens_is_listed() -> None:
    """
    Beside render nodes it holds the devices by which screens are seen.
    """
    assert "/dev/dri" in LISTED
    assert "/dev/dri" in GPU_READ
