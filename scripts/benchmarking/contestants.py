"""Who takes part in a case, by name, whatever the library."""

import numpy as np

from benchmarking import flax_peer, keras_peer
from benchmarking.cases import Case
from benchmarking.flax_peer import FLAX
from benchmarking.keras_peer import KERAS
from benchmarking.stacks import COMPILED, TORCH, backends_of, torch_call
from benchmarking.stacks import outputs as torch_outputs
from benchmarking.timing import Call

AGREE = 1e-3  # largest difference of outputs, which lie within -1 ... 1: same function, other order of additions


def names_of(case: Case, quick: bool) -> list[str]:
    """torch.nn and ``auto``; unless quick, also torch.compile, every backend that can, and the peers installed."""
    if quick:
        return [TORCH, "auto"]
    peers = {KERAS: keras_peer.why_not(), FLAX: flax_peer.why_not(case)}
    able = [] if case.ragged else [name for name, reason in peers.items() if reason is None]
    return [TORCH, COMPILED, *backends_of(case), *able]


def call_of(case: Case, name: str) -> Call:
    """What is timed of one contestant."""
    peer = {KERAS: keras_peer.call, FLAX: flax_peer.call}.get(name)
    return torch_call(case, name) if peer is None else peer(case)


def check_agreement(case: Case, names: list[str]) -> None:
    """Refuse a race between contestants that do not compute the same.

    Raises:
        RuntimeError: the outputs of one differ from torch.nn's.
    """
    expected = torch_outputs(case, TORCH).numpy()
    for name in names:
        peer = {KERAS: keras_peer.outputs, FLAX: flax_peer.outputs}.get(name)
        found = torch_outputs(case, name).numpy() if peer is None else peer(case)
        difference = float(np.abs(found - expected).max(initial=0))
        if not difference <= AGREE:
            raise RuntimeError(f"{name} differs from torch.nn by {difference:g} at {case}")
