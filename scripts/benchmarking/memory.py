"""Peak memory of a contestant: in a process of its own, by what the operating system counts."""

import ctypes
import gc
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarking.cases import Case
from benchmarking.contestants import call_of

STATUS = Path("/proc/self/status")


def peak_mebibytes(case: Case, name: str, threads: int) -> float | None:
    """How much memory a process with the contestant built and its libraries warm takes on at most over two calls.

    None where the system has no such count (other than Linux).
    """
    if not STATUS.exists():
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "deep_rnn"])
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(case, name, threads, send))
    process.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        return None  # the process died: out of memory
    finally:
        process.join()


def measure(case: Case, name: str, threads: int, send: Connection) -> None:
    """In the child: warm up on few steps, which loads code and starts threads, then watch the peak of two calls."""
    torch.set_num_threads(threads)
    call_of(case._replace(time=min(case.time, 2)), name)()
    call = call_of(case, name)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    before = kibibytes("VmRSS")
    call()
    call()
    send.send(max(kibibytes("VmHWM") - before, 0) / 1024)


def kibibytes(field: str) -> int:
    """One of the counts that Linux keeps of this process."""
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
