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
