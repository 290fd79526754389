"""Normalisation between layers, over the features of each step: nothing in it looks at other steps or sequences, so
padding and chunks change nothing."""

from typing import Any

from torch import nn

NORMS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "layer": nn.LayerNorm,  # Ba, Kiros & Hinton 2016
    "rms": nn.RMSNorm,  # Zhang & Sennrich 2019
}
PLACES = ("pre", "post")  # y = link(x, layer(norm(x))), or y = norm(link(x, layer(x)))


def norm_of(name: str, size: int, **factory: Any) -> nn.Module:
    """The named norm over ``size`` features."""
    return nn.Identity() if name == "none" else NORMS[name](size, **factory)
