"""The training loop, and what it stands on."""

from src.training.batches import FirstBatches
from src.training.checkpoint import load_checkpoint, load_weights
from src.training.closing import Summary
from src.training.distributed import join
from src.training.evaluation import evaluate
from src.training.loop import Trainer
from src.training.precision import pick_device, prepare
from src.training.stopping import Interrupted

__all__ = [
    "FirstBatches",
    "Interrupted",
    "Summary",
    "Trainer",
    "evaluate",
    "join",
    "load_checkpoint",
    "load_weights",
    "pick_device",
    "prepare",
]
