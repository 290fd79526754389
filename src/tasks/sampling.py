"""Text from a language model, a token at a time."""

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from src.data.encoder import TextEncoder, clean
from src.data.tokenizer import UNK_ID
from src.errors import RequestError
from src.modules.language_model import LanguageModel, read_prompt

Choose = Callable[[Tensor], int]
"""From [V] log-probabilities to the token that comes next."""


def prompt_ids(encoder: TextEncoder, prompt: str) -> list[int]:
    """The ids of a prompt; a model of words has learned what to do with one that it does not know.

    Raises:
        RequestError: there is no token in it, or a character that the model has never seen.
    """
    tokenizer = encoder.tokenizer
    ids = next(tokenizer.encode([clean(prompt)])).tolist()
    if not ids:
        raise RequestError(f"prompt={prompt!r}: holds no {tokenizer.unit}; give the beginning of a text")
    unknown = list(dict.fromkeys(tokenizer.unknown(clean(prompt))))
    shown = ", ".join(map(repr, unknown[:5])) + (", …" if len(unknown) > 5 else "")
    if unknown and tokenizer.unit == "character":
        raise RequestError(f"prompt: this run has never seen the character {shown}; leave it out or write another")
    if unknown:
        print(f"prompt: this run does not know the {tokenizer.unit} {shown}", file=sys.stderr)
    return ids


def chooser(temperature: float, top_k: int | None, top_p: float | None, seed: int) -> Choose:
    """Draw by softmax(log p / temperature), from the likeliest tokens only if asked; temperature 0 takes the likeliest.

    Args:
        temperature: below 1 is bolder, above 1 more random.
        top_k: how many of the likeliest tokens may come (Fan, Lewis & Dauphin 2018).
        top_p: the fewest likeliest tokens whose probabilities add up to this may come (Holtzman et al. 2020).
        seed: the same one gives the same text.
    """
    generator = torch.Generator().manual_seed(seed)

    def choose(log_p_V: Tensor) -> int:
        log_p_V = log_p_V.double().cpu()  # a copy, and the same draw on every device
        log_p_V[UNK_ID] = -torch.inf  # a token that is not known cannot be written
        if temperature == 0:
            return int(log_p_V.argmax())
        scaled_V = (log_p_V - log_p_V.max()) / temperature  # the likeliest stays 0, however low the temperature
        p_V, ids_V = scaled_V.softmax(0).sort(descending=True, stable=True)
        if top_k is not None:
            p_V = p_V[:top_k]
        if top_p is not None:
            before_V = p_V.cumsum(0) - p_V
            p_V = p_V[before_V < top_p * p_V.sum()]
        return int(ids_V[torch.multinomial(p_V, 1, generator=generator)])

    return choose


@torch.inference_mode()
def generate(model: LanguageModel, prompt_T: Tensor, choose: Choose) -> Iterator[int]:
    """Go on after a prompt, for ever: each token costs one step of the model, however long the text has become.

    Args:
        model: in evaluation mode.
        prompt_T: [T] at least one id, on the model's device.
        choose: see ``chooser``.
    """
    log_p_BV, state = read_prompt(model, prompt_T)
    while True:
        token = choose(log_p_BV[0])
        yield token
        log_p_BV, state = model.step(prompt_T.new_tensor([token]), state)
