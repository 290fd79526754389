"""Let a trained language model write.

    python -m src.generate run=RUN_DIR prompt="To be" [length=200] [temperature=1.0] [top_k=40] [top_p=0.9] [seed=0]
    python -m src.generate run=RUN_DIR < prompt.txt

writes the prompt and what follows it to standard output as it comes, and the speed to standard error. temperature=0
takes the likeliest token each time; the same seed gives the same text. A prompt may be of any length.
"""

import sys
import time
from itertools import islice
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from src.arguments import read_arguments
from src.cli import open_door
from src.config import explain
from src.errors import RequestError


class Request(BaseModel):
    """What may be asked for, beside the run and the prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    length: Annotated[int, Field(ge=1)] = 200
    """Tokens to write."""
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


def main() -> None:
    """Go on after ``prompt``, or after what standard input holds."""
    given, _ = read_arguments(sys.argv[1:], ["run"], ["prompt", "device", *Request.model_fields], __doc__)
    folder, prompt, device = given.pop("run"), given.pop("prompt", None), given.pop("device", "auto")
    try:
        request = Request.model_validate(given)
    except ValidationError as error:
        raise RequestError(explain(error, given)) from error
    prompt = read_prompt() if prompt is None else prompt
    import torch  # late: a wrong request needs no torch

    from src.modules.language_model import LanguageModel
    from src.restore import restore
    from src.tasks.sampling import chooser, generate, prompt_ids

    run = restore(folder, device)
    if not isinstance(run.model, LanguageModel) or run.encoder is None:
        raise RequestError(f"run={folder}: trained on task={run.cfg.task.name}; only a language model can write")
    ids = torch.tensor(prompt_ids(run.encoder, prompt), device=run.device)
    choose = chooser(request.temperature, request.top_k, request.top_p, request.seed)
    write = run.encoder.tokenizer.writer()
    print(prompt, end="", flush=True)
    clock = [time.perf_counter()]
    for token in islice(generate(run.model, ids, choose), request.length):
        clock.append(time.perf_counter())  # before the first token the prompt was read
        print(write(token), end="", flush=True)
    read, written = clock[1] - clock[0], clock[-1] - clock[1]
    rate = f", {(request.length - 1) / written:,.0f} tokens/s" if written > 0 else ""
    print(flush=True)
    print(f"{request.length} tokens{rate}, after a prompt of {len(ids)} read in {read:.2f} s", file=sys.stderr)


def read_prompt() -> str:
    """All of standard input as training reads a file: without its byte order mark, with plain line ends; without the
    end of its last line.

    Raises:
        RequestError: it is a terminal, or not UTF-8 (with the line).
    """
    if sys.stdin.isatty():
        raise RequestError("prompt= is missing: give the beginning of a text, or write it to standard input")
    content = sys.stdin.buffer.read()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RequestError(f"standard input, line {line}: not UTF-8 text") from None


if __name__ == "__main__":
    open_door(main)
