"""What the fused kernels ask of the system's memory."""

import subprocess
import sys

import pytest

from src.kernels import fused

pytestmark = pytest.mark.skipif(fused.why_not() is not None, reason=str(fused.why_not()))

# A process of its own: what ran before would have left memory behind.
COUNT_FAULTS = """
import resource
import torch
from src.models import DeepRNN

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
