"""Which modules of a stack have to be called as modules.

A backend computes with the cells' weights and calls neither cells nor layers. That is all the same until one of them
has hooks: those of users, of pruning, of torch's older weight_norm and spectral_norm, of fully_shard.
"""

from typing import Any

from torch import nn
from torch.nn.modules import module as torchs

GLOBAL: tuple[dict[int, Any], ...] = (  # hooks of all modules
    torchs._global_forward_pre_hooks,
    torchs._global_forward_hooks,
    torchs._global_backward_pre_hooks,
    torchs._global_backward_hooks,
)


def is_hooked(module: nn.Module) -> bool:
    """Whether a module has hooks of its own, or a ``forward`` that was put over its class's, as offloading does it."""
    own = module.__dict__  # asked of every part at every call: 0.1 us each
    return bool(
        own["_forward_pre_hooks"]
        or own["_forward_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
    )


def must_be_called(module: nn.Module) -> bool:
    """Whether calling a module does more than its class's ``forward``."""
    return is_hooked(module) or any(GLOBAL)


def any_must_be_called(rnn: Any) -> bool:
    """Whether a stack's own layers, or what stands in or between them, have to be called as modules."""
    return any(GLOBAL) or any(map(is_hooked, parts_of(rnn)))


def why_called(rnn: Any) -> str | None:
    """Why they have to, or None."""
    if any(GLOBAL):
        return "there are hooks for all modules"
    hooked = {id(part) for part in parts_of(rnn) if is_hooked(part)}
    return next((f"{name} has hooks" for name, module in rnn.named_modules() if id(module) in hooked), None)


def parts_of(rnn: Any) -> list[nn.Module]:
    """Layers, their cells, links and norms of a stack; looked through at every call, so by the shortest ways."""
    own = rnn._modules
    layers = own["layers"]._modules.values()
    parts = [*layers, *own["links"]._modules.values(), *own["norms"]._modules.values()]
    for layer in layers:
        parts += layer._modules["cells"]._modules.values()
    return parts
