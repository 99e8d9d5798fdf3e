from pathlib import Path

from plugin_worker.node.litter import Litter
from tests.hosts import DEADLINE


class TestLitter:
    def test_all_of_it_is_gone_when_it_closes(self, tmp_path: Path) -> None:
        """
        An empty folder goes at once, others soon; one that is not there harms nobody.
        """
        litter = Litter()
        empty, full, nothing = (tmp_path / name for name in ("empty", "full", "nothing"))
        empty.mkdir()
        (full / "folder").mkdir(parents=True)
        (full / "file").touch()
        for folder in (nothing, empty, full):
            litter.remove(folder)
        assert not empty.exists()
        litter.close(DEADLINE)
        assert not full.exists()
