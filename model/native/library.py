"""The compiled kernels: C sources beside this file, compiled once with the C compiler of the machine, if it has one.

Decisions held here: x86 CPUs with AVX-512 VNNI only, compiled for any such CPU (where it has AMX, too, is seen at run
time), so that what one machine compiled
(while an image is built, say) runs on another; the object lies beside its sources, or in the user's cache folder where
that is not writable, under a name that changes with the sources. Where anything is missing there are no kernels, and
everything runs through PyTorch. Run as a program, by a Python without further packages, it compiles ahead of time.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=x86-64-v4", "-mavx512vnni", "-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden")
NEEDED = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni", "f16c", "fma"}
COMPILE_SECONDS = 120.0


class Linear(ctypes.Structure):
    """A packed matrix; see native.h."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("bits", ctypes.c_int64),
        ("limit", ctypes.c_double),
    )


class Layer(ctypes.Structure):
    _fields_ = (
        ("attention_norm", ctypes.c_void_p),
        ("mlp_norm", ctypes.c_void_p),
        ("qkv", Linear),
        ("projection", Linear),
        ("up", Linear),
        ("down", Linear),
    )


class Transformer(ctypes.Structure):
    _fields_ = (
        ("n_layer", ctypes.c_int64),
        ("n_head", ctypes.c_int64),
        ("n_kv_head", ctypes.c_int64),
        ("n_embd", ctypes.c_int64),
        ("head_dim", ctypes.c_int64),
        ("n_ff", ctypes.c_int64),
        ("norm", ctypes.c_void_p),
        ("cosine", ctypes.c_void_p),
        ("sine", ctypes.c_void_p),
        ("layers", ctypes.POINTER(Layer)),
    )


class Cache(ctypes.Structure):
    _fields_ = (
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("layer_stride", ctypes.c_int64),
        ("slot_stride", ctypes.c_int64),
        ("head_stride", ctypes.c_int64),
    )


class Sampling(ctypes.Structure):
    _fields_ = (
        ("temperature", ctypes.c_void_p),
        ("temperatures", ctypes.c_int64),
        ("keys", ctypes.c_void_p),
        ("top_k", ctypes.c_void_p),
        ("top_p", ctypes.c_void_p),
    )


class Stage(ctypes.Structure):
    _fields_ = (
        ("transformer", ctypes.POINTER(Transformer)),
        ("head", ctypes.POINTER(Linear)),
        ("table", ctypes.c_void_p),
        ("vocab", ctypes.c_int64),
        ("codebooks", ctypes.c_int64),
        ("none_row", ctypes.c_int64),
        ("conditioning_rows", ctypes.c_int64),
        ("lookahead", ctypes.c_int64),
        ("rate", ctypes.c_int64),
        ("tokens", ctypes.c_void_p),
        ("token_slot_stride", ctypes.c_int64),
        ("token_stride", ctypes.c_int64),
        ("semantic", ctypes.c_void_p),
        ("semantic_stride", ctypes.c_int64),
        ("styles", ctypes.c_void_p),
        ("passes", ctypes.c_int64),
        ("guidance", ctypes.c_float),
        ("music_guidance", ctypes.c_float),
        ("semantic_guidance", ctypes.c_int64),
        ("music", ctypes.c_void_p),
        ("struck", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("intervals", "longest", "shares")),
    )


class Phases(ctypes.Structure):
    _fields_ = (
        ("magnitudes", ctypes.c_void_p),
        ("window", ctypes.c_void_p),
        ("share", ctypes.c_void_p),
        ("past", ctypes.c_void_p),
        ("turns", ctypes.c_void_p),
        ("place", ctypes.c_void_p),
        ("radices", ctypes.c_void_p),
        ("stages", ctypes.c_int64),
        ("length", ctypes.c_int64),
        ("hop", ctypes.c_int64),
        ("groups", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("known", ctypes.c_int64),
        ("iterations", ctypes.c_int64),
        ("lead", ctypes.c_double),
    )


_INT, _ADDRESS = ctypes.c_int64, ctypes.c_void_p
FUNCTIONS: dict[str, tuple[type, ...]] = {
    "linear_rows": (_ADDRESS, _ADDRESS, _INT, _ADDRESS, ctypes.c_int),
    "transformer_rows": (_ADDRESS, _ADDRESS, _ADDRESS, _INT, _INT, _ADDRESS, _ADDRESS, _ADDRESS),
    "draw_rows": (_ADDRESS, _INT, _INT, _INT, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS),
    "improve_phases": (_ADDRESS, _ADDRESS, _ADDRESS),
    "stage_steps": (_ADDRESS, _ADDRESS, _ADDRESS, _INT, _INT, _ADDRESS),
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, compiled if they have not been; None where they cannot be had."""
    if not cpu_has_what_is_needed():
        return None
    for folder in _folders():
        try:
            loaded = ctypes.CDLL(str(_compiled(folder)))
        except OSError as error:
            logger.info("no kernels in %s: %s", folder, error)
            continue
        except (FileNotFoundError, subprocess.SubprocessError) as error:
            logger.warning("no kernels: %s; everything runs through PyTorch, slower", error)
            return None
        for name, arguments in FUNCTIONS.items():
            function = getattr(loaded, name)
            function.argtypes, function.restype = arguments, None
        return loaded
    return None


def cpu_has_what_is_needed() -> bool:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return set(flags.split()) >= NEEDED


def _sources() -> list[Path]:
    return sorted(FOLDER.glob("*.[ch]"))


def _folders() -> Iterator[Path]:
    yield FOLDER
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    yield Path(home) / "audiolm"


def _compiled(folder: Path) -> Path:
    """The object in `folder`, compiled there if need be. Raises OSError where it cannot be kept, SubprocessError."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in _sources():
        digest.update(source.read_bytes())
    target = folder / f"kernels-{digest.hexdigest()[:16]}.so"
    if target.exists():
        return target
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass  # a folder that cannot be written to is found out before the compiler runs
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process compiles, the others wait for it
        if not target.exists():
            _compile(target)
    return target


def _compile(target: Path) -> None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise subprocess.SubprocessError(f"none of {', '.join(COMPILERS)} is installed")
    part = target.with_suffix(".part")
    files = [str(source) for source in _sources() if source.suffix == ".c"]
    done = subprocess.run(
        [compiler, *FLAGS, "-o", str(part), *files, "-lm"],
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS,
    )
    if done.returncode:
        raise subprocess.SubprocessError(f"{compiler} failed: {done.stderr.strip()[:300]}")
    part.replace(target)


if __name__ == "__main__":
    # for a machine like this one or, where an image is built, for those it will run on
    print(_compiled(FOLDER) if platform.machine() == "x86_64" else "no kernels for this kind of CPU")
