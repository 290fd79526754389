"""A finished run, taken up from its folder: what evaluating and predicting need."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from src.config import Config, read_config
from src.data.base import DataSpec
from src.data.build import build_data
from src.data.encoder import TextEncoder
from src.data.options import TextOptions
from src.data.text_data import describe_texts
from src.errors import RequestError
from src.files import write_atomic
from src.tasks.build import build_task
from src.training import load_weights, pick_device

ENCODER = "encoder.json"


class Run(NamedTuple):
    """A trained model and all that stands between it and its data."""

    cfg: Config
    encoder: TextEncoder | None
    """What makes texts ids, None where the run's data is no text."""
    spec: DataSpec
    """What the data of the run said of itself."""
    task: Any
    model: nn.Module
    device: torch.device


def restore(folder: str | Path, device: str = "auto") -> Run:
    """Load the best weights of a run, ready to evaluate.

    Raises:
        RequestError: the folder holds no run, or something in it is missing or damaged.
    """
    cfg = read_config(folder)
    if isinstance(cfg.data, TextOptions):  # a text needs no more than the encoder; the training texts may be gone
        encoder = read_encoder(folder)
        spec = describe_texts(encoder, counts={}, several_labels=cfg.data.several_labels)
    else:
        encoder, spec = None, build_data(cfg.data, cfg.seed).spec
    task = build_task(cfg, spec)
    model = task.build_model(cfg, spec)
    load_weights(model, Path(folder) / "best.ckpt")
    target = pick_device(device)
    return Run(cfg, encoder, spec, task, model.to(target).eval(), target)


def read_encoder(folder: str | Path) -> TextEncoder:
    """Read the encoder that a run folder holds.

    Raises:
        RequestError: it is missing or damaged.
    """
    path = Path(folder) / ENCODER
    try:
        return TextEncoder.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RequestError(f"{path} is missing: the run ended before it began to train") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} is damaged ({type(error).__name__}: {error}); train anew") from error


def keep_encoder(folder: Path, encoder: TextEncoder) -> None:
    """Write the encoder beside a new run; for one that goes on, make sure that it is still the same.

    Raises:
        RequestError: the data has changed since the run began, so that ids no longer mean the same words.
    """
    if not (folder / ENCODER).exists():
        write_atomic(folder / ENCODER, json.dumps(encoder.to_dict(), ensure_ascii=False))
    elif read_encoder(folder).to_dict() != encoder.to_dict():
        raise RequestError(
            f"{folder}: the data, its vocabulary or its length rule has changed since this run was trained"
        )
