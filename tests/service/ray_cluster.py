"""A Ray cluster of two nodes as a process of its own: `python -m tests.service.ray_cluster PORT ANSWERS`.

Each node has room for one replica; requests enter at the first. It says `ready` on the pipe whose file descriptor is
ANSWERS, since Ray writes to standard output when it likes; a line `kill` on standard input pulls the second node's
plug, and is answered `killed`; the end of the input ends everything. Settings come from the environment. Ray warns of
itself in many ways, which would be errors in the tests' process.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

import ray
from ray import serve
from ray.cluster_utils import Cluster

from service.ray_app import application

STORE_BYTES = 80_000_000


def main(port: int, answers: Connection) -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": STORE_BYTES}
    )
    ray.init(
        address=cluster.address, log_to_driver=False
    )  # before there is another: this process lives on the first
    second = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    serve.start(http_options={"port": port}, proxy_location="HeadOnly")
    serve.run(application({"replicas_min": "2", "replicas_max": "2", "cpus": "1"}))
    answers.send("ready")
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(second, allow_graceful=False)
            answers.send("killed")
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), Connection(int(sys.argv[2]), readable=False))
