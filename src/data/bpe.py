"""Pieces of words as tokens: byte-pair encoding on bytes, by Hugging Face tokenizers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HuggingFace
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from src.data.options import BpeOptions
from src.data.pieces import PIECE, batches
from src.data.tokenizer import END_ID, PAD, UNK


class BpeTokenizer:
    """A trained byte-level BPE: every text has ids, none is unknown, and decoding gives the (folded) text back."""

    unit = "piece"

    def __init__(self, library: HuggingFace) -> None:
        self._library = library
        # Otherwise "<pad>" standing in a text would become padding. The library does not save this switch.
        library.encode_special_tokens = True

    @classmethod
    def fit(cls, texts: Iterable[str], options: BpeOptions) -> "BpeTokenizer":
        """Learn the merges from these texts."""
        library = HuggingFace(models.BPE(unk_token=UNK))
        if options.lowercase:
            library.normalizer = normalizers.Lowercase()
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=options.vocab_size,
            min_frequency=options.min_freq,
            special_tokens=[PAD, UNK],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        library.train_from_iterator(texts, trainer)
        return cls(library)

    @property
    def tokens(self) -> list[str]:
        """The token of every id, bytes written as the library writes them (a blank is Ġ)."""
        ids = self._library.get_vocab()
        return sorted(ids, key=ids.__getitem__)

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[np.int32]]:
        """Encode in batches, each of which the library spreads over the cores by itself."""
        for batch in batches(texts, 4 * PIECE):
            for encoding in self._library.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array(encoding.ids, dtype=np.int32)

    @property
    def characters(self) -> list[int]:
        """The bytes of each piece that begin a character in UTF-8; the end of a text counts as one."""
        starts = {letter for byte, letter in _letters().items() if byte & 0b1100_0000 != 0b1000_0000}
        return [1, 1, *(sum(letter in starts for letter in token) for token in self.tokens[2:])]

    def unknown(self, text: str) -> list[str]:
        """None: every byte has an id."""
        return []

    def writer(self) -> Callable[[int], str]:
        """Pieces as they come, a character that is spread over several as soon as it is whole."""
        stream = decoders.DecodeStream(skip_special_tokens=False)

        def write(id_: int) -> str:
            nonlocal stream
            if id_ != END_ID:
                return stream.step(self._library, id_) or ""
            stream = decoders.DecodeStream(skip_special_tokens=False)
            return "\n"

        return write

    def decode(self, ids: Sequence[int]) -> str:
        """Join the bytes and read them as UTF-8."""
        return self._library.decode(list(ids), skip_special_tokens=False)

    def to_dict(self) -> dict[str, Any]:
        """Say everything in plain JSON types."""
        return {"name": "bpe", "library": self._library.to_str()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "BpeTokenizer":
        """Make the tokenizer again."""
        return cls(HuggingFace.from_str(content["library"]))


def _letters() -> dict[int, str]:
    """The letter that stands for each byte in a byte-level piece: itself where it can be seen (Radford et al. 2019)."""
    seen = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + number) for number, byte in enumerate(others)}
