import os
import shutil
import stat
from pathlib import Path

import pytest

from plugin_worker.node import weighing
from plugin_worker.node.watch import MAX_DEPTH
from plugin_worker.node.weighing import weigh

KiB = 1 << 10
PLENTY = 1 << 40


def on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


class TestWeigh:
    def test_blocks_and_entries_of_all_folders_are_counted(self, tmp_path: Path) -> None:
        """
        Also below other folders; a file that is not there counts nothing.
        """
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 100 * KiB)
        (tmp_path / "empty").touch()
        found = weigh([str(tmp_path), str(tmp_path / "gone")], PLENTY)
        paths = list(tmp_path.rglob("*"))
        assert found.size == sum(map(on_disk, paths)) >= 100 * KiB
        assert (found.files, found.depth) == (4, 3)

    def test_a_hole_in_a_file_takes_no_room(self, tmp_path: Path) -> None:
        """
        As the disk counts it: a sparse file is as large as what was written.
        """
        with (tmp_path / "sparse").open("wb") as file:
            file.truncate(1 << 30)
        assert weigh([str(tmp_path)], PLENTY).size < 100 * KiB

    def test_a_file_with_two_names_is_there_once(self, tmp_path: Path) -> None:
        """
        Its bytes are shared between them.
        """
        (tmp_path / "one").write_bytes(b"x" * 64 * KiB)
        before = weigh([str(tmp_path)], PLENTY).size
        os.link(tmp_path / "one", tmp_path / "two")
        assert weigh([str(tmp_path)], PLENTY).size == before

    def test_no_link_is_followed(self, tmp_path: Path) -> None:
        """
        Neither to a file nor to a folder, nor round in a circle.
        """
        (tmp_path / "far").mkdir()
        (tmp_path / "far" / "file").write_bytes(b"x" * 64 * KiB)
        own = tmp_path / "own"
        own.mkdir()
        (own / "folder").symlink_to(tmp_path / "far")
        (own / "file").symlink_to(tmp_path / "far" / "file")
        (own / "circle").symlink_to(own)
        found = weigh([str(own)], PLENTY)
        assert (found.files, found.depth) == (3, 1)
        assert found.size < 64 * KiB

    def test_it_ends_as_soon_as_it_is_too_much(self, tmp_path: Path) -> None:
        """
        The rest is not looked at.
        """
        for number in range(50):
            (tmp_path / str(number)).write_bytes(b"x" * 8 * KiB)
        found = weigh([str(tmp_path)], 20 * KiB)
        assert found.size > 20 * KiB
        assert found.files <= 4

    def test_many_empty_files_are_too_much(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        They fill a disk too, and nobody wants to wait until they are counted.
        """
        monkeypatch.setattr(weighing, "MAX_FILES", 10)
        for number in range(50):
            (tmp_path / str(number)).touch()
        assert weigh([str(tmp_path)], PLENTY).files == 11

    def test_folders_are_counted_only_so_deep(self, tmp_path: Path) -> None:
        """
        Beyond that it says so and goes no deeper, whatever lies there.
        """
        deep = tmp_path.joinpath(*["d"] * (MAX_DEPTH + 5))
        deep.mkdir(parents=True)
        assert weigh([str(tmp_path)], PLENTY).depth == MAX_DEPTH + 1

    def test_a_folder_that_its_owner_cannot_list_is_counted(self, tmp_path: Path) -> None:
        """
        An ordinary user may hide files so. It is ours to open, and the plugin's to use as before.
        """
        hidden = tmp_path / "hidden"
        hidden.mkdir()
        (hidden / "file").write_bytes(b"x" * 64 * KiB)
        hidden.chmod(0o300)
        if os.geteuid() == 0:
            shutil.chown(tmp_path, 65534, 65534)
            shutil.chown(hidden, 65534, 65534)
            found = _as_nobody(tmp_path)
        else:
            found = weigh([str(tmp_path)], PLENTY).size
        assert found >= 64 * KiB
        assert stat.S_IMODE(hidden.stat().st_mode) == 0o700


def _as_nobody(folder: Path) -> int:
    """Weigh as a user who may not do everything, in a child process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(folder)  # which lies in folders that only we may enter
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(writer, str(weigh(["."], PLENTY).size).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    if not said:
        pytest.fail("the child said nothing")
    return int(said)
