"""From texts to encoded splits, once, and then from the cache."""

import dataclasses
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from src.data.cache import Cache, Unwritten, cache_key
from src.data.corpus import Corpus, Source
from src.data.encoder import TextEncoder
from src.data.labels import count_classes, some_of, warn_about_classes
from src.data.options import TextOptions
from src.data.split import EncodedSplit, label_array
from src.data.text_data import TextData, describe_texts
from src.data.vectors import load_vectors
from src.errors import RequestError

log = logging.getLogger(__name__)

_NOT_IN_KEY = {
    "path",
    "val_path",
    "test_path",
    "url",
    "md5",
    "cache_dir",
    "embedding_path",
    "max_length",
    "keep",
    "crop",
    "labelled",
    "cooccurrence",
}
"""Options that leave the cached ids as they are: where the content lies (the fingerprint says what it is), and what
is done to them later. Whole texts are cached; cutting them takes milliseconds."""


def build_text(
    make_source: Callable[[Any, int], Source], options: TextOptions, seed: int, encoder: TextEncoder | None
) -> TextData:
    """Read, split and encode a data set, or take it from the cache.

    Args:
        make_source: called with the options and the seed of the holdout.
        options: of the data set.
        seed: the run's; it cuts the holdout where the options have no seed of their own.
        encoder: that of a finished run, to evaluate it on this data: nothing is learned from the data then, and the
            encoder's own length rule and classes hold.

    Raises:
        RequestError: the data is missing, damaged or not what it should be.
    """
    fit = encoder is None
    name = options.name
    split_seed, extent = options.seed_of_split(seed), options.extent
    source = make_source(options, split_seed)
    cache = Cache(options.cache_dir)
    content = source.fingerprint()
    key = cache_key(
        content=content,
        options=options.model_dump(exclude=_NOT_IN_KEY),
        split_seed=split_seed,
        encoder=encoder and [encoder.tokenizer.to_dict(), encoder.class_names],
    )
    entry = cache.load(f"{name}-{key}")
    if entry is None:
        log.info("encoding %s (once, then from the cache)", name)
        corpus = source.read(fit)
        encoder = encoder or TextEncoder.fit(corpus.splits["train"].texts, options, corpus.class_names)
        kind = np.min_scalar_type(encoder.vocab_size - 1)
        whole, _ = cache.save(f"{name}-{key}", _unwritten(corpus, encoder), kind, encoder.to_dict())
        if source.fingerprint() != content:
            cache.remove(f"{name}-{key}")
            raise RequestError(f"data={name}: its files changed while they were read; start again")
    else:
        whole, known = entry
        encoder = encoder or dataclasses.replace(
            TextEncoder.from_dict(known), max_length=extent.max_length, keep=extent.keep
        )
    splits = {split: encoded.cut(encoder.max_length, encoder.keep) for split, encoded in whole.items()}
    chosen = None
    if fit and extent.labelled is not None:
        chosen = some(len(splits["train"]), extent.labelled, split_seed)
        splits["train"] = splits["train"].take(chosen)
    if fit and encoder.class_names:
        warn_about_classes(encoder.class_names, splits)
    return TextData(
        spec=describe_texts(
            encoder,
            counts={split: count_classes(part.labels, len(encoder.class_names)) for split, part in splits.items()},
            several_labels=options.several_labels,
            embedding=_vectors(whole["train"], encoder, options) if fit else None,
        ),
        splits=splits,
        whole=whole,
        encoder=encoder,
        read=lambda: source.read(fit),
        crop=extent.crop,
        chosen=chosen,
    )


def some(count: int, labelled: int, seed: int) -> NDArray[np.int64]:
    """The training examples whose labels are used, in their order."""
    if labelled > count:
        raise RequestError(f"data.labelled={labelled}: there are only {count} texts to train on")
    return np.sort(np.random.default_rng(seed).choice(count, labelled, replace=False))


def _unwritten(corpus: Corpus, encoder: TextEncoder) -> dict[str, Unwritten]:
    """Every split as it is to be encoded, with the encoder's numbers for the classes."""
    numbers = {name: number for number, name in enumerate(encoder.class_names)}
    unknown = [name for name in corpus.class_names if name not in numbers]
    if unknown and numbers:  # a language model of plain text has none: labels mean nothing to it
        raise RequestError(
            f"the model does not know the label {unknown[0]!r} of this data; it tells apart"
            f" {some_of(encoder.class_names)}"
        )
    classes = np.array([numbers[name] for name in corpus.class_names]) if numbers else None
    return {
        name: Unwritten(
            pieces=partial(encoder.in_pieces, split.texts),
            labels=label_array(
                as_classes(split.labels, classes, len(numbers)) if corpus.class_names and classes is not None else None,
                len(split.texts),
            ),
            joined=not corpus.class_names and len(split.texts) > 1,
        )
        for name, split in corpus.splits.items()
    }


def as_classes(labels: list[Any], classes: NDArray[np.int64], count: int) -> NDArray[Any]:
    """[N] an encoder's number for each label, or [N, C] a 0 or 1 for each class, where texts have several labels."""
    if not labels or not isinstance(labels[0], tuple):
        return classes[labels]
    table = np.zeros((len(labels), count), np.uint8)
    for row, own in zip(table, labels, strict=True):
        row[classes[list(own)]] = 1
    return table


def _vectors(train: EncodedSplit, encoder: TextEncoder, options: TextOptions) -> Tensor | None:
    """Where the word vectors of a new model start, if not at random."""
    if options.cooccurrence is not None:
        from src.data.cooccurrence import cooccurrence_vectors  # late: it brings scipy and scikit-learn

        if options.cooccurrence > encoder.vocab_size:
            raise RequestError(
                f"data.cooccurrence={options.cooccurrence} is wider than the vocabulary, which has"
                f" {encoder.vocab_size:,} tokens"
            )
        log.info("making word vectors of the training texts")
        return cooccurrence_vectors(train, encoder.vocab_size, options.cooccurrence)
    if options.embedding_path is None:
        return None
    table, coverage = load_vectors(options.embedding_path, encoder.tokenizer.tokens)
    log.info("%s has vectors for %.1f %% of the vocabulary", options.embedding_path, 100 * coverage)
    return table
