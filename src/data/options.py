"""What the sections of ``conf/data/`` share; each data set adds its own in ``src/data/NAME.py``.

Values stand in YAML, types and ranges here.
"""

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from src.choices import Options

Share = Annotated[float, Field(gt=0, lt=1)]


class DataOptions(Options):
    """What the rest of the program asks of a data set's options."""

    name: str

    def held_out(self, seed: int) -> dict[str, Any]:
        """What decides what a run of this seed holds out, by name; nothing where nothing is drawn."""
        return {}


class WordOptions(Options):
    """``conf/data/tokenizer/word.yaml``: whole words, split and counted by torchtext."""

    name: Literal["word"]
    vocab_size: Annotated[int, Field(ge=3)] | None
    """Ids in all, the two reserved ones (padding, unknown) among them, as in Keras; null keeps every word."""
    min_freq: Annotated[int, Field(ge=1)]
    """How often a word must stand in the training part to get an id of its own."""
    lowercase: bool
    rule: Literal["words", "words_and_marks", "basic_english", "whitespace", "whitespace_lines"]
    """What a token is (see ``src.data.word``)."""


class BpeOptions(Options):
    """``conf/data/tokenizer/bpe.yaml``: byte-pair encoding (Sennrich et al. 2016) on bytes, by Hugging Face."""

    name: Literal["bpe"]
    vocab_size: Annotated[int, Field(ge=258)]
    """Ids in all: two reserved ones, the 256 bytes, and as many merges as still fit."""
    min_freq: Annotated[int, Field(ge=1)]
    """How often a pair must stand in the training part to be merged."""
    lowercase: bool


class CharOptions(Options):
    """``conf/data/tokenizer/char.yaml``: single characters."""

    name: Literal["char"]
    vocab_size: Annotated[int, Field(ge=3)] | None
    """Ids in all, the two reserved ones (padding, unknown) among them; null keeps every character."""
    min_freq: Annotated[int, Field(ge=1)]
    """How often a character must stand in the training part to get an id of its own."""
    lowercase: bool


TokenizerOptions = Annotated[WordOptions | BpeOptions | CharOptions, Field(discriminator="name")]
Keep = Literal["first", "last", "both"]


class Extent(NamedTuple):
    """How much of a text a classifier reads, and from how many texts it learns."""

    max_length: int | None = None
    keep: Keep = "last"
    crop: int | None = None
    labelled: int | None = None


class TextOptions(DataOptions):
    """What every set of texts needs to be told."""

    tokenizer: TokenizerOptions
    holdout: Share
    """Share of the training part that is held out for validation."""
    embedding_path: str | None
    """File of pretrained word vectors in GloVe's format: a token and its numbers a line."""
    cooccurrence: Annotated[int, Field(ge=1)] | None
    """Width of word vectors to start from, made of the training texts themselves (see ``src.data.cooccurrence``)."""
    cache_dir: str | None
    """Folder for encoded data and downloads; null keeps nothing."""

    @property
    def extent(self) -> Extent:
        """How much is read: all."""
        return Extent()

    @property
    def several_labels(self) -> bool:
        """Whether a text may have several labels, or none."""
        return False

    def seed_of_split(self, seed: int) -> int:
        """The seed of the holdout in a run of this seed; there is none where nothing is drawn."""
        return 0

    def held_out(self, seed: int) -> dict[str, Any]:
        """The seed of the split, and the share."""
        return {"seed": self.seed_of_split(seed), "holdout": self.holdout}

    @model_validator(mode="after")
    def _one_start_for_the_vectors(self) -> Self:
        if self.embedding_path is not None and self.cooccurrence is not None:
            raise ValueError("give embedding_path or cooccurrence, not both: each says where the word vectors start")
        return self


class LabelledTextOptions(TextOptions):
    """What a set of labelled texts needs to be told; a language model reads them whole all the same."""

    max_length: Annotated[int, Field(ge=1)] | None
    """Longest sequence, in tokens; null for no limit."""
    keep: Keep
    """Which tokens of a longer text stay; ``both`` keeps half of them from either end."""
    crop: Annotated[int, Field(ge=1)] | None
    """Training reads a window of so many tokens of a longer text, placed anew each epoch; evaluation reads all."""
    labelled: Annotated[int, Field(ge=1)] | None
    """Training texts whose labels are used; vocabulary, word vectors and language models are made of all of them."""
    split_seed: Annotated[int, Field(ge=0)] | None
    """Seed of the shuffle before the holdout is cut off; null takes the run's seed."""
    stratify: bool
    """Hold out the same share of every class; otherwise of all examples together."""

    @property
    def extent(self) -> Extent:
        """How much is read."""
        return Extent(self.max_length, self.keep, self.crop, self.labelled)

    def seed_of_split(self, seed: int) -> int:
        """``split_seed``, or the run's."""
        return seed if self.split_seed is None else self.split_seed

    def held_out(self, seed: int) -> dict[str, Any]:
        """The seed of the split, the share, and whether it is each class's."""
        return super().held_out(seed) | {"stratify": self.stratify}
