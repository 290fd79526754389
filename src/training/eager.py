"""Optimizers that do not load torch's compiler, which takes seconds and only ``compile=true`` uses.

torch 2.9 to 2.13 import ``torch._dynamo`` in an optimizer's first calls, only to keep the compiler out of them. What
is done here is lost on a torch that does it in another way, and nothing else is.
"""

import inspect
from types import MethodType

import torch
from torch.optim import Optimizer


def keep_out_compiler() -> None:
    """Let optimizers be made, emptied of gradients and saved without the compiler; call it before one is made."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = inspect.unwrap(getattr(Optimizer, name))
        method.__dynamo_disable = method  # where torch looks for "the compiler stays out"


def step_in_eager(optimizer: Optimizer) -> None:
    """Give an optimizer the step that it has beneath what is there for the compiler, before a scheduler wraps it."""
    if not optimizer.defaults.get("differentiable"):
        step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
        optimizer.step = MethodType(Optimizer.profile_hook_step(step), optimizer)  # type: ignore[method-assign]
