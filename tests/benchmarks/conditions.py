"""Where and under what load the numbers were taken. Without it none of them means anything."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

GPU_FIELDS = (
    "name",
    "driver_version",
    "pstate",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "power.draw",
    "temperature.gpu",
    "utilization.gpu",
)
PEERS = ("audiolm-pytorch", "transformers", "litserve")


def conditions(clock: str) -> dict[str, Any]:
    """Machine, versions, threads, load, clock. Plain JSON values."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "machine": f"{platform.machine()}, {_processor()}",
        "cores": os.cpu_count(),
        "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "core_share": round(core_share(), 3),
        "memory_available_gib": round(available_memory() / 2**30, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu_state(),
        "clock": clock,
        "versions": {name: _version(name) for name in PEERS},
    }


def core_share(seconds: float = 0.5) -> float:
    """The part of a core that this thread gets while it wants all of it."""
    started, used = time.perf_counter(), time.thread_time()
    while time.perf_counter() - started < seconds:
        pass
    return (time.thread_time() - used) / (time.perf_counter() - started)


def is_busy(found: dict[str, Any]) -> bool:
    """Whether others used the machine when `conditions` were taken."""
    crowded: bool = found["load_average"][0] > found["cores"] / 2
    return crowded or found["core_share"] < 0.97


def available_memory() -> int:
    """Bytes that can be taken without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def gpu_state() -> dict[str, str] | None:
    """What nvidia-smi says of the first GPU now; None without one."""
    if not torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    if answer.returncode:
        return None
    return dict(zip(GPU_FIELDS, answer.stdout.splitlines()[0].split(", "), strict=False))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
