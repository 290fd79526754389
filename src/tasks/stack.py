"""The stack that every task builds its model around."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from deep_rnn import DeepRNN
from src.config import Config, HighwayConfig, NoLinkConfig
from src.data.base import DataSpec
from src.errors import RequestError
from src.modules.budget import fit_width

log = logging.getLogger(__name__)


def input_size(cfg: Config, spec: DataSpec) -> int:
    """Features that the stack reads: the width of the numbers, or of the vectors that ids become."""
    return cfg.task.embedding if spec.feature_size is None else spec.feature_size


def build_stack(cfg: Config, input_size: int) -> DeepRNN:
    """Make the ``DeepRNN`` that the config describes.

    Raises:
        RequestError: a name or option that the stack does not know.
    """
    try:
        return DeepRNN(hidden_size=cfg.width, **arguments(cfg, input_size))
    except (ValueError, TypeError) as error:
        raise RequestError(f"model: {error}") from error


def start_from(embedding: nn.Embedding | None, vectors: Tensor | None) -> None:
    """Begin at the pretrained vectors of the data, where there are any.

    Raises:
        RequestError: they are of another width.
    """
    if embedding is None or vectors is None:
        return
    if vectors.shape[1] != embedding.embedding_dim:
        raise RequestError(
            f"task.embedding={embedding.embedding_dim}: the vectors in data.embedding_path have {vectors.shape[1]}"
        )
    with torch.no_grad():
        embedding.weight.copy_(vectors)


def spend_budget(cfg: Config, input_size: int) -> Config:
    """Give the config the width that ``param_budget`` buys, if it has one.

    Raises:
        RequestError: the budget is too small, or the stack cannot be built at all.
    """
    if cfg.param_budget is None:
        return cfg
    heads = cfg.model.options.get("heads", 1)
    try:
        bought = fit_width(cfg.param_budget, multiple=heads, **arguments(cfg, input_size))
    except (ValueError, TypeError) as error:
        raise RequestError(f"model: {error}") from error
    log.info("param_budget: %s", bought)
    return cfg.model_copy(update={"width": bought.width})


def arguments(cfg: Config, input_size: int) -> dict[str, Any]:
    """What ``DeepRNN`` takes, but for the width."""
    model, noise = cfg.model, cfg.regularise
    link: dict[str, Any] = {"link": cfg.link.name}
    if not isinstance(cfg.link, NoLinkConfig):
        link["link_start"] = cfg.link.start
    if isinstance(cfg.link, HighwayConfig):
        link["gate_bias"] = cfg.link.gate_bias
    return {
        "input_size": input_size,
        "num_layers": cfg.depth,
        "cell": model.cell,
        "bidirectional": cfg.bidirectional,
        "merge": model.merge,
        "dropout": cfg.dropout,
        "locked_dropout": noise.locked_dropout,
        "recurrent_dropout": noise.recurrent_dropout,
        "candidate_dropout": noise.candidate_dropout,
        "weight_drop": noise.weight_drop,
        "zoneout": tuple(noise.zoneout) if isinstance(noise.zoneout, list) else noise.zoneout,
        "norm": model.norm,
        "norm_place": model.norm_place,
        "bias": model.bias,
        "init": model.init,
        "forget_bias": model.forget_bias,
        "horizon": model.horizon,
        "learn_state": model.learn_state,
        "recompute": model.recompute,
        "backend": cfg.backend,
        **link,
        **model.options,
    }
