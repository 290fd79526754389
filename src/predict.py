"""Label texts with a trained run.

    python -m src.predict run=RUN_DIR text="What a film!"
    python -m src.predict run=RUN_DIR < one_text_a_line.txt

prints a JSON object a text, with its label and the probability of that label.
"""

import json
import sys
from collections.abc import Iterator
from itertools import islice

from src.arguments import read_arguments
from src.cli import open_door
from src.errors import RequestError


def main() -> None:
    """Label ``text``, or the lines of standard input: one by one as they are typed, of a file or pipe 256 together."""
    request, _ = read_arguments(sys.argv[1:], ["run"], ["text", "device"], __doc__)
    if request.get("text", "-").strip() == "":
        raise RequestError("text= is empty: give a text to label, or leave text= out and write lines to standard input")
    texts = iter([request["text"]]) if "text" in request else read_lines()
    from src.restore import restore  # late: a wrong request needs no torch

    run = restore(request["run"], request.get("device", "auto"))
    if run.encoder is None:
        raise RequestError(f"run={request['run']}: trained on data={run.cfg.data.name}, which has no texts to label")
    together = 1 if sys.stdin.isatty() else 256
    while chunk := list(islice(texts, together)):
        for prediction in run.task.label(run.model, run.encoder, chunk):
            print(json.dumps(prediction, ensure_ascii=False), flush=True)


def read_lines() -> Iterator[str]:
    """The lines of standard input."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise RequestError(f"standard input, line {number}: not UTF-8 text") from None


if __name__ == "__main__":
    open_door(main)
