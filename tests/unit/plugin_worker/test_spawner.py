import resource
from pathlib import Path

from plugin_worker.node.spawner import Spawner
from plugin_worker.sandbox.policy import STANDARD
from protocol.messages import PluginSource, SpawnWorker
from protocol.permissions import NOTHING


def test_a_worker_may_have_half_of_the_nodes_descriptors(tmp_path: Path) -> None:
    """
    Whatever its manifest asks for: those that it has on their way may not stop the node's own.
    """
    spawner = Spawner(tmp_path, has_groups=False)
    node = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for files, held in ((64, 64), (node, node // 2)):
        order = SpawnWorker(
            incarnation=1,
            plugin_id="greedy",
            source=PluginSource(root="", entry="greedy:Greedy"),
            data_dir=str(tmp_path / "data" / "greedy"),
            permissions=NOTHING.to_wire(),
            limits={"files": files},
        )
        assert spawner.confinement(order, STANDARD).limits["NOFILE"] == held


def test_a_worker_without_a_folder_has_its_own_for_the_time_it_lives(tmp_path: Path) -> None:
    """
    Its home is its private folder, which the node removes with it; nothing else is writable.
    """
    source = PluginSource(root=str(tmp_path), entry="p.py")
    order = SpawnWorker(incarnation=7, plugin_id=".describe", source=source, data_dir="")
    (tmp_path / "logs").mkdir()
    spawner = Spawner(tmp_path, has_groups=False)

    worker, theirs = spawner.prepare(order)
    try:
        tmp = str(tmp_path / "tmp" / "7")
        assert Path(worker.data_dir).samefile(tmp)
        assert spawner.environment(order)["HOME"] == tmp
        confinement = spawner.confinement(order, ())
        assert (confinement.write, confinement.tmp) == ((), tmp)
    finally:
        theirs.close()
        worker.close()
