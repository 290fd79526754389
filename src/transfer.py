"""Transfer: a model whose embedding and stack start from another run's, as Dai & Le (2015) start a classifier."""

import logging
from pathlib import Path
from typing import Any

import torch

from src.config import Config, read_config, shown
from src.data.base import Data
from src.data.options import DataOptions, TextOptions
from src.data.tokenizer import Tokenizer
from src.errors import RequestError
from src.modules.sequence import SequenceEncoder
from src.restore import read_encoder
from src.training.checkpoint import fill, judged_weights, load_checkpoint

log = logging.getLogger(__name__)

SAME = (
    "depth",
    "width",
    "bidirectional",
    "link",
    "model.cell",
    "model.options",
    "model.bias",
    "model.merge",
    "model.norm",
    "model.norm_place",
    "model.learn_state",
    "task.embedding",
)
"""Settings that give the weights of embedding and stack their names and shapes."""


def start_from_run(folder: str, cfg: Config, model: Any, data: Data) -> None:
    """Fill a model's embedding and stack with the best weights of the run in ``folder``; the head starts anew.

    Args:
        folder: of a run over the same vocabulary, as a rule of a language model.
        cfg: the new run's configuration.
        model: a ``SequenceEncoder``.
        data: the new run's.

    Raises:
        RequestError: the folder holds no such run, or vocabulary, embedding or stack differ (by the name of what does),
            or it has been trained on texts that the new run holds out.
    """
    theirs = read_config(folder, "init_from")
    if data.encoder is None or not isinstance(model, SequenceEncoder):
        raise RequestError(f"init_from={folder}: only a model of texts can start from another run")
    check_settings(folder, theirs, cfg)
    check_holdout(folder, theirs, cfg)  # before the vocabulary, which another split changes too
    check_vocabulary(folder, read_encoder(folder).tokenizer, data.encoder.tokenizer)
    weights = judged_weights(load_checkpoint(Path(folder) / "best.ckpt"))
    own = {name: value for name, value in model.state_dict().items() if not shared(name)}
    fill(model, own | {name: value for name, value in weights.items() if shared(name)})
    pad = model.embedding.padding_idx if model.embedding is not None else None
    if model.embedding is not None and pad is not None:
        with torch.no_grad():
            model.embedding.weight[pad] = 0  # a language model ends texts with what is padding here
    log.info("embedding and stack start from %s", folder)


def shared(name: str) -> bool:
    """Whether a weight belongs to what every model of sequences has: the embedding and the stack."""
    return name.startswith(("embedding.", "rnn."))


def check_settings(folder: str, theirs: Config, ours: Config) -> None:
    """Refuse a stack or an embedding of another shape."""
    for key in SAME:
        there, here = (setting(config.to_dict(), key) for config in (theirs, ours))
        if there != here:
            raise RequestError(
                f"init_from={folder}: it has {key}={shown(there)}, this run {key}={shown(here)};"
                " embedding and stack must be the same"
            )


def setting(config: dict[str, Any], key: str) -> Any:
    """What stands under a dotted key."""
    for part in key.split("."):
        config = config[part]
    return config


def check_vocabulary(folder: str, theirs: Tokenizer, ours: Tokenizer) -> None:
    """Refuse ids that mean other words."""
    there, here = theirs.to_dict(), ours.to_dict()
    if there == here:
        return
    rules = [key for key in here if key != "tokens" and there.get(key) != here[key] and key in there]
    if there.get("name") != here.get("name"):
        difference = f"its tokenizer is {there.get('name')}, this run's {here.get('name')}"
    elif len(theirs.tokens) != len(ours.tokens):
        difference = f"it knows {len(theirs.tokens):,} tokens, this run {len(ours.tokens):,}"
    elif theirs.tokens != ours.tokens:
        pairs = zip(theirs.tokens, ours.tokens, strict=True)
        first, (one, other) = next((index, pair) for index, pair in enumerate(pairs) if pair[0] != pair[1])
        difference = f"token {first} is {one!r} there and {other!r} here"
    else:
        difference = f"they differ in {', '.join(rules) or 'their rules'}"
    raise RequestError(f"init_from={folder}: another vocabulary: {difference}; give both runs the same data.tokenizer")


def places_of(data: DataOptions) -> list[Any]:
    """Where a data set's texts come from, however the paths are written."""
    paths = [getattr(data, key, None) for key in ("path", "val_path", "test_path")]
    return [data.name, *(path and Path(path).expanduser().resolve() for path in paths)]


def check_holdout(folder: str, theirs: Config, ours: Config) -> None:
    """Refuse a run that has been trained on texts which the new one holds out."""
    there, here = theirs.data, ours.data
    if places_of(there) != places_of(here) or not (isinstance(there, TextOptions) and isinstance(here, TextOptions)):
        log.warning(
            "%s was trained on data=%s: results mean nothing if that held texts of this run's holdout",
            folder,
            there.name,
        )
        return
    splits = there.held_out(theirs.seed), here.held_out(ours.seed)
    if splits[0] != splits[1]:
        one, other = (", ".join(f"{name}={value}" for name, value in split.items()) for split in splits)
        raise RequestError(
            f"init_from={folder}: it was trained on texts that this run holds out: it split by {one}, this run by"
            f" {other}; set data.split_seed and the others alike"
        )
