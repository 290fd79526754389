"""What the fused kernels ask of the system's memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deep_rnn import DeepRNN
from deep_rnn.kernels import fused

pytestmark = pytest.mark.skipif(fused.why_not() is not None, reason=str(fused.why_not()))

# A process of its own: what ran before would have left memory behind.
COUNT_FAULTS = """
import resource
import torch
from deep_rnn import DeepRNN

rnn, x = DeepRNN(128, 128, 3), torch.randn(100, 32, 128)

def steps(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        rnn(x)[0].sum().backward()
        rnn.zero_grad(set_to_none=True)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / count

steps(10)
print(steps(20))
"""


def test_a_warm_training_step_runs_in_memory_it_has_used_before() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 20  # pages; a step of this size uses more than ten thousand


def flags_of_mapping(address: int) -> list[str]:
    """What the system was told of the memory at an address: proc_pid_smaps(5), VmFlags."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            first, end = (int(border, 16) for border in name.split("-"))
            inside = first <= address < end
        elif inside and name == "VmFlags:":
            return values
    raise AssertionError(f"no mapping holds {address:x}")


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="this system has no huge pages")
def test_what_is_large_asks_for_huge_pages() -> None:
    output = DeepRNN(64, 64, backend="fused")(torch.randn(400, 32, 64))[0]
    assert output.nbytes > 2 << 20
    assert "hg" in flags_of_mapping(output.data_ptr())
