from pathlib import Path

import pytest

from plugin_worker.node.oom import LATELY_S, MemoryKills, _of_groups, counting_files
from tests.limits import no_descriptor_left


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    file = tmp_path / "vmstat"
    file.write_text("pgfault 7\noom_kill 3\n")
    return file


def killed(counts: Path, number: int) -> None:
    counts.write_text(f"oom_kill_disable 0\nunder_oom 9\noom_kill {number}\n")


class TestMemoryKills:
    def test_it_shows_when_the_count_has_grown(self, counts: Path) -> None:
        """
        What was killed before counts for nothing; nor does anything else in the file.
        """
        kills = MemoryKills((counts,), 0.0)
        assert not kills.look(1.0)

        killed(counts, 4)
        assert kills.look(2.0)

    def test_a_look_between_the_kill_and_the_death_hides_nothing(self, counts: Path) -> None:
        """
        The count grows first, and somebody may look at it just then.
        """
        kills = MemoryKills((counts,), 0.0)
        kills.look(10.0)
        killed(counts, 4)
        assert kills.look(20.0)
        assert kills.look(20.1)
        assert kills.look(20.0 + LATELY_S - 0.1)

    def test_what_is_long_past_explains_no_other_death(self, counts: Path) -> None:
        """
        Somebody else's end, a minute ago, says nothing of this one.
        """
        kills = MemoryKills((counts,), 0.0)
        killed(counts, 4)
        for now in (10.0, 20.0, 30.0):
            kills.look(now)

        assert not kills.look(31.0)

    def test_a_file_that_is_taken_away_counts_nothing(self, counts: Path, tmp_path: Path) -> None:
        """
        A group may be removed under us; the other counts go on.
        """
        kills = MemoryKills((counts, tmp_path / "gone"), 0.0)
        killed(counts, 4)
        assert kills.look(1.0)

    def test_a_look_that_sees_nothing_makes_no_later_count_look_grown(self, counts: Path) -> None:
        """
        While there is no descriptor to read with, what was counted last goes on.
        """
        kills = MemoryKills((counts,), 0.0)
        with no_descriptor_left():
            assert not kills.look(10.0)
            assert not kills.look(20.0)
        assert not kills.look(30.0)


class TestFiles:
    def test_our_own_group_is_found(self, tmp_path: Path) -> None:
        """
        In both of the kernel's ways to lay groups out.
        """
        groups = tmp_path / "cgroup"
        groups.write_text("4:cpu,memory:/a/b\n1:cpu:/c\n0::/d\n")

        assert list(_of_groups(groups, Path("/sys/fs/cgroup"))) == [
            Path("/sys/fs/cgroup/memory/a/b/memory.oom_control"),
            Path("/sys/fs/cgroup/d/memory.events"),
        ]
        assert list(_of_groups(tmp_path / "none", Path("/"))) == []

    def test_only_what_can_be_read_is_asked(self) -> None:
        """
        On this machine, whatever it is.
        """
        for file in counting_files():
            assert file.read_text()
