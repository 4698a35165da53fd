"""A real Ray cluster of several nodes on this machine, and what of ``streamsr watch`` runs on them."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import command, descendants
from ray.cluster_utils import Cluster

STORE_BYTES = 80_000_000  # the least that Ray takes
CHECK_S, CHECKS = 1.0, 4  # a node that does not answer so many of its head's questions is dead
KEPT = re.compile(r"streamsr\.(watch\.(camera|device)|io\.rtsp_publisher)|ray::(Camera|Model)OnNode")


class Nodes:
    """The head node takes no cameras."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self._nodes = cluster, dict[str, Any]()
        self.address = str(cluster.address)
        self._others = _ours()  # that other tests share
        self.logs = Path(cluster.head_node.get_logs_dir_path())  # of all nodes, as they are on one machine

    @property
    def ids(self) -> list[str]:
        return list(self._nodes)

    def add(self, **resources: Any) -> str:
        """Its id."""
        node = self._cluster.add_node(object_store_memory=STORE_BYTES, **resources)
        self._nodes[node.node_id] = node
        return str(node.node_id)

    def kept(self) -> set[int]:
        """Processes of cameras and models and their keepers, on all nodes."""
        return _ours() - self._others

    def kill(self, node_id: str) -> None:
        self._cluster.remove_node(self._nodes.pop(node_id), allow_graceful=False)


@contextmanager
def nodes(*resources: Mapping[str, Any]) -> Iterator[Nodes]:
    """One for each of ``resources``, such as {"num_cpus": 1}, beside the head."""
    checks = {
        "health_check_initial_delay_ms": 1000,
        "health_check_period_ms": round(1000 * CHECK_S),
        "health_check_failure_threshold": CHECKS,
    }
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "_system_config": checks}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        found = Nodes(cluster)
        for one in resources:
            found.add(**one)
        yield found
    finally:
        cluster.shutdown()


def folders(node_id: str) -> list[Path]:
    """Of model processes of this node."""
    return list(Path(tempfile.gettempdir()).glob(f"streamsr-watch-*{node_id[:12]}*"))


def _ours() -> set[int]:
    return {process_id for process_id in descendants(os.getpid()) if KEPT.search(command(process_id))}
