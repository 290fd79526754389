"""The device, the number format and the sources of chance of a run."""

import os
import random
import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from src import processes
from src.config import DEVICES
from src.errors import RequestError

AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """Turn ``auto | cpu | cuda | cuda:N | mps`` into a device that this machine has; ``auto`` takes the fastest.

    Raises:
        RequestError: the device asked for is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if not re.fullmatch(DEVICES, name):
        raise RequestError(f"device={name}: should be auto, cpu, mps, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RequestError(f"device={name}: torch sees {torch.cuda.device_count()} CUDA devices here; try device=auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RequestError("device=mps: torch sees no Apple GPU here; try device=auto")
    return device


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process among those that torchrun started here: each has a GPU of its own.

    Raises:
        RequestError: there are fewer GPUs than processes, or one was named for all.
    """
    if processes.size() == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise RequestError(f"device={device}: under torchrun each process has a GPU of its own: ask for cuda, or cpu")
    index, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if index >= there:
        raise RequestError(f"this machine has {there} GPUs: take --nproc-per-node={there}, or device=cpu")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def autocast(amp: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which the forward pass runs; it may be entered again and again."""
    return nullcontext() if amp == "off" else torch.autocast(device.type, AMP_TYPES[amp])


def make_scaler(amp: str, device: torch.device) -> torch.amp.GradScaler:
    """Return the loss scaler: fp16 needs one, for the others every method of it does nothing."""
    return torch.amp.GradScaler(device.type, enabled=amp == "fp16")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_deterministic() -> None:
    """Let torch use only algorithms that give the same bits each time; one that has none raises."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it first starts
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def prepare(*, device: str, seed: int, deterministic: bool, threads: int | None) -> torch.device:
    """Set the process up for a run, before the first tensor is made, and return the device it trains on."""
    if threads is not None:
        torch.set_num_threads(threads)
    if deterministic:
        make_deterministic()
    seed_everything(seed)
    return own_device(pick_device(device))


def rng_state() -> dict[str, Any]:
    """Return the state of every random generator as plain lists and tensors (``weights_only`` loads nothing else)."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` returned; states of devices that are not here are left out."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    for index, words_on_device in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(words_on_device, index)
    if state["mps"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
