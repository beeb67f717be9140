"""The service on many machines: one engine per Ray Serve replica, behind Serve's proxies.

    serve run service.ray_app:application                     on a Ray cluster; a replica takes one GPU if there are any
    serve run service.ray_app:application replicas_max=16

Decisions held here: a replica is the whole app of `audiolm serve`, with the same settings, so the contract is the
same; queueing and refusing stay the engine's business, and Serve's own queue never fills. A replica counts as started
when its engine is warm, and as ill when its engine's heartbeat is stale. The number of replicas follows their backlog
in seconds. The proxies need `service.ray_proxy`: it turns a lost replica into an answer that clients retry.
"""

from __future__ import annotations

import math
import os
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from starlette.types import ASGIApp

from service.app import build_worker, create_app
from service.commands.environment import read_settings
from service.layers import build_provenance
from service.logs import configure

BACKLOG = "backlog_seconds"
TARGET_BACKLOG_SECONDS = 5.0  # of a replica: what a caller may wait before the first step
NEVER_FULL = 10_000  # requests Serve passes on to a replica at once: the engine refuses long before


def replicas_for_backlog(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """As many replicas as bring the backlog of each down to TARGET_BACKLOG_SECONDS; the least while it is unknown."""
    reported = (context.aggregated_metrics or {}).get(BACKLOG, {})  # seconds by replica
    wanted = math.ceil(sum(reported.values()) / TARGET_BACKLOG_SECONDS)
    least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return max(least, min(most, wanted)), {}


@serve.ingress()
class Replica:
    """One engine and the app around it. `environment`: AUDIOLM_* settings of all replicas, over the machine's own."""

    def __init__(self, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        self.settings = read_settings()
        configure(self.settings.log_level, self.settings.log_format)
        self.worker = build_worker(self.settings)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return create_app(self.settings, self.worker, provenance=build_provenance(self.settings))

    async def check_health(self) -> None:
        """Return once the engine is warm, and as long as it moves. Raises EngineFailed, RuntimeError."""
        await self.worker.ready()
        if not self.worker.alive:
            raise RuntimeError(f"the engine has not moved for {self.worker.heartbeat_age:.0f} s")

    def record_autoscaling_stats(self) -> dict[str, float]:
        return {BACKLOG: self.worker.backlog_seconds}


def application(arguments: dict[str, str]) -> serve.Application:
    """What `serve run` and KubeRay start. Arguments: `replicas_min`, `replicas_max`, `cpus` and `gpus` of a replica."""
    gpus = "1" if ray.cluster_resources().get("GPU") else "0"
    deployment = serve.deployment(
        Replica,
        name="audiolm",
        max_ongoing_requests=NEVER_FULL,
        autoscaling_config=AutoscalingConfig(
            min_replicas=int(arguments.get("replicas_min", "1")),
            max_replicas=int(arguments.get("replicas_max", "8")),
            policy=AutoscalingPolicy(policy_function=replicas_for_backlog),
            upscale_delay_s=10.0,
            downscale_delay_s=300.0,
        ),
        ray_actor_options={
            "num_cpus": float(arguments.get("cpus", "2")),
            "num_gpus": float(arguments.get("gpus", gpus)),
        },
        health_check_period_s=5.0,
        health_check_timeout_s=30.0,
        graceful_shutdown_wait_loop_s=1.0,
        graceful_shutdown_timeout_s=read_settings().drain_seconds + 10,
    )
    return deployment.bind({name: value for name, value in os.environ.items() if name.startswith("AUDIOLM_")})
