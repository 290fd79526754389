"""Fine-tuning by level (Howard & Ruder 2018): lower layers learn more slowly, and later.

A model's levels, bottom first, are its embedding, each layer of its stack, and its head (``SequenceEncoder.levels``).
"""

from torch import nn

from src.config import Config
from src.errors import RequestError

Level = list[nn.Parameter]


def levels_of(model: nn.Module, cfg: Config) -> list[Level]:
    """The trainable parameters level by level, bottom first; one level where the configuration treats all alike.

    Raises:
        RequestError: the configuration asks for levels, and the model has none.
    """
    if cfg.finetune.layer_decay == 1 and cfg.finetune.unfreeze_epochs is None:
        return [[parameter for parameter in model.parameters() if parameter.requires_grad]]
    if not hasattr(model, "levels"):
        raise RequestError(f"finetune: {type(model).__name__} has no levels to tell apart")
    return model.levels()  # type: ignore[operator]


class Unfreezing:
    """Gradual unfreezing: training starts with the top level alone, and one more is let go every few epochs.

    Frozen parameters have ``requires_grad`` false, so that no time is spent on their gradients either.

    Args:
        levels: bottom first.
        epochs: between one level and the next; None: all learn from the start.
    """

    def __init__(self, levels: list[Level], epochs: int | None) -> None:
        self.levels, self.epochs = levels, epochs

    def left_frozen(self, epochs: int) -> int:
        """How many levels never learn in so many epochs."""
        return 0 if self.epochs is None else max(len(self.levels) - 1 - (epochs - 1) // self.epochs, 0)

    def begin(self, epoch: int) -> None:
        """Freeze and let go what epoch ``epoch`` (from 0) is to find so: a function of the epoch alone."""
        if self.epochs is None:
            return
        learning = 1 + epoch // self.epochs
        for height, level in enumerate(reversed(self.levels)):
            for parameter in level:
                parameter.requires_grad_(height < learning)
