"""What happens to the code that runs: traced into a graph, mapped by torch.func, or run on shapes alone."""

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor


def in_graph() -> bool:
    """Whether torch.compile or torch.export traces this code."""
    return torch.compiler.is_compiling()


def under_vmap() -> bool:
    """Whether torch.func.vmap maps this code, alone or with other transforms around or inside it."""
    return not in_graph() and any(level.key() == TransformType.Vmap for level in get_interpreter_stack() or ())


def transformed() -> bool:
    """Whether any transform of torch.func is at work on this code."""
    return not in_graph() and bool(get_interpreter_stack())


def is_shape_only(tensor: Tensor) -> bool:
    """Whether a tensor has no values: it is on the meta device, or one of FakeTensorMode's."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)
