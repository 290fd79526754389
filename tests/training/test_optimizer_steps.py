"""Optimizers without the compiler do what torch's do."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from src.config import Config
from src.training.eager import keep_out_compiler
from src.training.optim import build_optimizer

THEIRS: dict[str, Callable[..., Optimizer]] = {
    "adam": lambda weights: Adam(weights, lr=0.01, fused=True),
    "adamw": lambda weights: AdamW(weights, lr=0.01, weight_decay=0.1, fused=True),
    "sgd": lambda weights: SGD(weights, lr=0.01, fused=True),
    "rmsprop": lambda weights: RMSprop(weights, lr=0.01, alpha=0.99, foreach=True),
}


@pytest.mark.parametrize("name", THEIRS)
def test_steps_without_the_compiler_equal_those_of_torch_bit_for_bit(
    name: str, configured: Callable[..., Config]
) -> None:
    extra = {"adamw": ["weight_decay=0.1"], "rmsprop": ["optimizer.alpha=0.99", "optimizer.momentum=0"]}.get(name, [])
    more = ["optimizer.momentum=0"] if name == "sgd" else []
    weights = []
    for make in (lambda m: THEIRS[name](m.parameters()), None):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
        cfg = configured(f"optimizer={name}", "lr=0.01", *extra, *more)
        optimizer = build_optimizer(model, cfg) if make is None else make(model)
        for _ in range(5):
            model(torch.randn(8, 3)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(map(torch.equal, *weights))


def test_an_optimizer_of_torch_made_afterwards_still_compiles(configured: Callable[..., Config]) -> None:
    keep_out_compiler()
    weight = nn.Parameter(torch.ones(3))
    optimizer = SGD([weight], lr=0.5)
    weight.sum().backward()
    torch.compile(optimizer.step, backend="eager")()
    assert torch.equal(weight.detach(), torch.full((3,), 0.5))
