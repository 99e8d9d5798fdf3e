from pathlib import Path

import pytest

from protocol.errors import UsageError
from protocol.messages import PluginSource, SpawnWorker, ToNode
from protocol.names import parse_plugin_id
from spiral_host.operator import Operator
from spiral_host.worker_orders import WorkerOrders


def test_who_is_only_asked_for_metadata_has_no_lasting_folder(tmp_path: Path) -> None:
    """
    Nothing that one plugin's import leaves is found by another's, and no plugin has its name.
    """
    told: list[ToNode] = []
    orders = WorkerOrders(told.append, tmp_path, Operator(), "standard")

    orders.spawn_to_ask(7, PluginSource(root="/p", entry="p.py"))

    (order,) = told
    assert isinstance(order, SpawnWorker)
    assert order.data_dir == ""
    with pytest.raises(UsageError):
        parse_plugin_id(order.plugin_id)
