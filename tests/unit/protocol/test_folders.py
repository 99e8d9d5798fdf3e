import os
from pathlib import Path

from protocol.folders import remove_folder


class TestRemoveFolder:
    def test_all_in_it_is_removed(self, tmp_path: Path) -> None:
        """
        Files, folders with files, links; what a link leads to stays.
        """
        top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
        for folder in (top / "a" / "b" / "c", top / "d", elsewhere):
            folder.mkdir(parents=True)
            (folder / "file").touch()
        (top / "link").symlink_to(elsewhere)
        (top / "d" / "link").symlink_to(elsewhere, target_is_directory=True)
        os.mkfifo(top / "pipe")
        remove_folder(top)
        assert not top.exists()
        assert (elsewhere / "file").exists()

    def test_depth_costs_neither_stack_nor_descriptors(self, tmp_path: Path) -> None:
        """
        Folders in each other, deeper than there may be calls or open files, or a path is long.
        """
        top = tmp_path / "top"
        top.mkdir()
        folder = os.open(top, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("folder", dir_fd=folder)
            inner = os.open("folder", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
        os.close(folder)
        remove_folder(top)
        assert not top.exists()

    def test_what_is_no_folder_stays(self, tmp_path: Path) -> None:
        """
        Nothing is followed out of the folder, and what is gone is no error.
        """
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (tmp_path / "link").symlink_to(elsewhere)
        (elsewhere / "file").touch()
        remove_folder(tmp_path / "link")
        remove_folder(tmp_path / "nothing")
        assert (elsewhere / "file").exists()
