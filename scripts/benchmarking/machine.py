"""What this machine can do at most, measured: its matrix products and its memory."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarking.timing import Call, Times, interleave

SIDE = 768  # of the square product: large enough for the full rate, 7 MiB of matrices
COPIED = 64 * 2**20  # bytes of the array that is copied: larger than the caches
SETTLING = 30 * 2**20  # bytes: just under the 32 MiB above which glibc hands every block back


class Limits(NamedTuple):
    """Rates that no kernel here can pass for long."""

    operations: float  # of a float32 matrix product, a second
    bandwidth: float  # bytes a second, read plus written

    def milliseconds(self, operations: int, bytes_moved: int) -> float:
        """The least time for some work, by whichever limit binds (the roofline)."""
        return 1e3 * max(operations / self.operations, bytes_moved / self.bandwidth)


PRODUCTS = ("product by torch.mm", "product by oneDNN")
"""Libraries differ: on one machine with AVX-512 MKL, behind torch.mm, reached half of oneDNN's rate."""


COPY = "copy"
LIMITS = (*PRODUCTS, COPY)
"""Names of what is timed for the limits and takes no part in the race."""


def settle() -> None:
    """Leave the C library's memory as it is in a process that has loaded its data.

    Once it has freed a large block, glibc keeps what is freed instead of handing it back to the system page by page.
    torch.nn's LSTM, which asks for fresh memory at every call, takes up to twice as long where that has not happened;
    in a training run it has.
    """
    torch.zeros(SETTLING // 4)


def limit_calls() -> dict[str, Call]:
    """Calls to time beside a row's contestants, so that all see the machine in the same state."""
    a, b, product = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE), torch.empty(SIDE, SIDE)
    source, target = torch.zeros(COPIED // 4), torch.empty(COPIED // 4)
    calls: dict[str, Call] = {PRODUCTS[0]: lambda: torch.mm(a, b, out=product), COPY: lambda: target.copy_(source)}
    if torch.backends.mkldnn.is_available():
        blocked = a.to_mkldnn()
        calls[PRODUCTS[1]] = lambda: torch.nn.functional.linear(blocked, b)
    return calls


def limits_from(times: Mapping[str, Times]) -> Limits:
    """The best rates that ``limit_calls`` reached, each in the faster quarter of its calls."""
    product = min(times[name].low for name in PRODUCTS if name in times)
    return Limits(2e3 * SIDE**3 / product, 2e3 * COPIED / times[COPY].low)


def describe(seconds: float = 0.3) -> dict[str, Any]:
    """What ran, for the record: processor, threads, versions, and the limits."""
    limits = limits_from(interleave(limit_calls(), seconds))
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "gflop_per_second": round(limits.operations / 1e9, 1),
        "gigabytes_per_second": round(limits.bandwidth / 1e9, 1),
    }


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
