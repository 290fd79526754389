"""Stacks whose weights lie in parts in several processes: torch's fully_shard, layer by layer, cell by cell."""

import multiprocessing
import os
import socket
import sys
import warnings
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.utils import parametrizations

from deep_rnn import DeepRNN

NOISE = {"dropout": 0.2, "recurrent_dropout": 0.3, "candidate_dropout": 0.3, "weight_drop": 0.3, "zoneout": 0.1}
STACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("lstm", {}),
    "native": ("lstm", {"backend": "native"}),
    "linked": ("gru", {"bidirectional": True, "link": "highway", "norm": "layer"}),
    "learned": ("rnn", {"learn_state": True, "backend": "loop"}),
    "noisy": ("lstm", NOISE),
    "two stacks": ("gru", {"bidirectional": "stacks", "backend": "eager"}),
}
SHARDED = {
    "layers": lambda rnn: list(rnn.layers),
    "cells": lambda rnn: [cell for layer in rnn.layers for cell in layer.cells],
    "both": lambda rnn: [one for layer in rnn.layers for one in (*layer.cells, layer)],
    "stack": lambda rnn: [],
}


def sharded(rnn: DeepRNN, where: str, **options: Any) -> DeepRNN:
    """The stack with its weights spread over the processes."""
    stacks = [rnn] if rnn.mirror is None else [rnn.mirror, rnn]
    for stack in stacks:
        for module in (*SHARDED[where](stack), stack):
            fully_shard(module, **options)
    return rnn


def trained(rnn: nn.Module, x: Tensor) -> list[Tensor]:
    """The outputs of three steps, with the same noise whoever asks."""
    optimizer, outputs = torch.optim.SGD(rnn.parameters(), lr=0.5), []
    for step in range(3):
        torch.manual_seed(step)
        output, _ = rnn(x, lengths=[5, 3])
        output.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        outputs.append(output.detach())
    return outputs


def made(cell: str, dtype: torch.dtype = torch.double, parametrised: bool = False, **options: Any) -> DeepRNN:
    """The same stack every time."""
    torch.manual_seed(0)
    rnn = DeepRNN(4, 6, 2, cell, dtype=dtype, **options)
    if parametrised:
        for layer in rnn.layers:
            parametrizations.weight_norm(layer.cell, "weight_hh")
    return rnn


def compare(rank: int, port: int) -> None:
    """What each process does: all stacks, sharded in every way, against the whole."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mesh, exact = init_device_mesh("cpu", (2,)), {"rtol": 1e-10, "atol": 1e-12}
    torch.manual_seed(7)
    x = torch.randn(5, 2, 4, dtype=torch.double)
    for name, (cell, options) in STACKS.items():
        expected = trained(made(cell, **options), x)
        for where in SHARDED:
            rnn = sharded(made(cell, **options), where, mesh=mesh)
            torch.testing.assert_close(trained(rnn, x), expected, **exact, msg=lambda m, at=(name, where): f"{at} {m}")
            assert rnn.layers[0].cell.native_mode is not None
            assert ("layer by layer" in rnn.explain(x)) == (where != "stack")
    expected = trained(made("gru", parametrised=True), x)
    for where in SHARDED:
        found = trained(sharded(made("gru", parametrised=True), where, mesh=mesh), x)
        torch.testing.assert_close(found, expected, **exact)
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, output_dtype=torch.float32)
    expected = trained(made("lstm", torch.float32, **NOISE), x.float())
    for where in SHARDED:
        found = trained(sharded(made("lstm", torch.float32, **NOISE), where, mesh=mesh, mp_policy=half), x.float())
        torch.testing.assert_close(found[0], expected[0], rtol=0.05, atol=0.05)
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")
def test_sharded_stacks_train_as_whole_ones() -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_fully_shard"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=compare, args=(rank, port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
