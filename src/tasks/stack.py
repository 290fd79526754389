"""The stack that every task builds its model around."""

from typing import Any

from src.config import Config, HighwayConfig
from src.errors import RequestError
from src.models import DeepRNN


def build_stack(cfg: Config, input_size: int) -> DeepRNN:
    """Make the ``DeepRNN`` that the config describes.

    Raises:
        RequestError: a name or option that the stack does not know.
    """
    link: dict[str, Any] = {"gate_bias": cfg.link.gate_bias} if isinstance(cfg.link, HighwayConfig) else {}
    try:
        return DeepRNN(
            input_size,
            cfg.width,
            cfg.depth,
            cell=cfg.model.cell,
            link=cfg.link.name,
            bidirectional=cfg.bidirectional,
            merge=cfg.model.merge,
            dropout=cfg.dropout,
            backend=cfg.backend,
            init=cfg.model.init,
            **link,
            **cfg.model.options,
        )
    except (ValueError, TypeError) as error:
        raise RequestError(f"model: {error}") from error
