"""Words as tokens: splitting and vocabulary through torchtext 0.6.0, which is used in this module only."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchtext.data.utils import _patterns, _replacements, get_tokenizer
from torchtext.vocab import Vocab

from src.data.options import WordOptions
from src.data.pieces import batches
from src.data.spread import spread
from src.data.tokenizer import END_ID, PAD, UNK, UNK_ID

_PLAIN = [
    (found.replace("\\", ""), put) for found, put in zip(_patterns, _replacements, strict=True) if found != r"\s+"
]


def basic_english(text: str) -> list[str]:
    """torchtext's own rule. Its regular expressions stand for themselves but for the last, which leaves to ``split``
    what it would have found anyway: as plain strings they take a third of the time."""
    text = text.lower()
    for found, put in _PLAIN:
        text = text.replace(found, put)
    return text.split()


RULES: dict[str, Callable[[str], list[str]]] = {
    # Words only (don't is one), as in Keras: more of the review within the same length.
    "words": get_tokenizer(re.compile(r"\w+(?:'\w+)*").findall),
    # Each punctuation mark as a token of its own too: "!" and "?" say something where length is no matter.
    "words_and_marks": get_tokenizer(re.compile(r"\w+(?:'\w+)*|[^\w\s]").findall),
    # torchtext's own rule: lower case, most marks kept, don't becomes three tokens.
    "basic_english": get_tokenizer(basic_english),
    # For texts that are tokenised already.
    "whitespace": get_tokenizer(None),
    # The same with the end of every line as a token, as Penn Treebank and WikiText are read in the literature.
    "whitespace_lines": get_tokenizer(re.compile(r"\S+|\n").findall),
}


class WordTokenizer:
    """Split by a named rule, then look the words up in a list.

    Args:
        tokens: the token of every id, the reserved ones first.
        rule: a key of ``RULES``.
        lowercase: fold case before splitting.
    """

    unit = "word"

    def __init__(self, tokens: list[str], rule: str, lowercase: bool) -> None:
        self.tokens = tokens
        self.rule = rule
        self.lowercase = lowercase
        # A plain dict: torchtext's own (Vocab.stoi) grows with every unknown word it is asked for. The reserved tokens
        # are left out, so that "<pad>" in a text is an unknown word.
        self._ids = {token: id_ for id_, token in enumerate(tokens) if id_ > UNK_ID}

    @classmethod
    def fit(cls, texts: Iterable[str], options: WordOptions) -> "WordTokenizer":
        """Build the vocabulary of these texts: by frequency, then by the alphabet."""
        splitter = cls([], options.rule, options.lowercase)
        counts: Counter[str] = Counter()
        for found in spread(splitter._count, batches(texts)):
            counts.update(found)
        max_size = None if options.vocab_size is None else options.vocab_size - 2  # torchtext counts without specials
        vocabulary = Vocab(counts, max_size=max_size, min_freq=options.min_freq, specials=[PAD, UNK])
        return cls(list(vocabulary.itos), options.rule, options.lowercase)

    @property
    def characters(self) -> None:
        """Blanks, perhaps marks and capitals, and all words without an id are lost."""

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[np.int32]]:
        """Look up every word of every text; of large sets on all cores."""
        for found in spread(self._look_up, batches(texts)):
            yield from found

    def unknown(self, text: str) -> list[str]:
        """The words of a text that have no id."""
        return [word for word in self._split(text) if word not in self._ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Write the words with blanks between them."""
        return " ".join(self.tokens[id_] for id_ in ids)

    def writer(self) -> Callable[[int], str]:
        """Words with a blank before each, but at the beginning of a line."""
        blank = True

        def write(id_: int) -> str:
            nonlocal blank
            word = "\n" if id_ == END_ID else self.tokens[id_]
            text = word if word == "\n" or not blank else f" {word}"
            blank = word != "\n"
            return text

        return write

    def to_dict(self) -> dict[str, Any]:
        """Say everything in plain JSON types."""
        return {"name": "word", "rule": self.rule, "lowercase": self.lowercase, "tokens": self.tokens}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "WordTokenizer":
        """Make the tokenizer again."""
        return cls(content["tokens"], content["rule"], content["lowercase"])

    def _split(self, text: str) -> list[str]:
        return RULES[self.rule](text.lower() if self.lowercase else text)

    def _count(self, texts: list[str]) -> Counter[str]:
        return Counter(chain.from_iterable(map(self._split, texts)))

    def _look_up(self, texts: list[str]) -> list[NDArray[np.int32]]:
        find = self._ids.get
        return [np.array([find(word, UNK_ID) for word in self._split(text)], dtype=np.int32) for text in texts]
