"""What reading a large text costs: ``python scripts/text_cost.py`` prints a table for texts of 10 MB, 100 MB and 1 GB.

The words are drawn from IMDb's reviews as often as they stand there, by a fixed seed. Each text is read in a process of
its own, whose memory is that of all its processes together, looked at twenty times a second. Needs
Linux, and three times the largest size on the disk for a while.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import checkout
import numpy as np
from hydra import compose, initialize_config_dir

from src.config import compose_config
from src.data.build import build_data
from src.data.imdb import ImdbSource
from src.data.text_data import TextData

SIZES = (10, 100, 1000)
TOKENIZERS = {
    "char": ["data/tokenizer=char"],
    "words": ["data/tokenizer=word"],
    "basic_english": ["data/tokenizer=word", "data.tokenizer.rule=basic_english"],
    "bpe": ["data/tokenizer=bpe"],
}
COLUMNS = ("data", "MB", "tokenizer", "seconds", "MB/s", "CPU seconds", "peak memory, MB", "of it before", "again, s")
LINE = 200
"""Words of a made line."""


def words() -> list[str]:
    """Every word of IMDb's training reviews, as often as it stands there."""
    options: Any = compose_options("data=imdb", "data.cache_dir=null")
    texts = ImdbSource(options, 0).read(True).splits["train"].texts
    return [word for text in texts for word in str(text).split()]


def compose_options(*overrides: str) -> Any:
    """The options of a data set, from ``conf/``."""
    with initialize_config_dir(str(Path(checkout.__file__).resolve().parent.parent / "conf"), version_base=None):
        return compose_config(compose("config", overrides=[*overrides])).data


def make(path: Path, megabytes: int, known: list[str], table: bool) -> None:
    """Write a text of so many million bytes, a line for so many words; as a table with every line's label."""
    rng, table_of_words = np.random.default_rng(0), np.array(known, dtype=object)
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n" if table else "")
        while file.tell() < megabytes * 1_000_000:
            for drawn in table_of_words[rng.integers(len(known), size=(500, LINE))]:
                line = " ".join(drawn.tolist())
                file.write('"{}",{}\n'.format(line.replace('"', '""'), rng.integers(2)) if table else f"{line}\n")


def read(data: str, path: str, tokenizer: str, cache: str) -> dict[str, float]:
    """In a process of its own: read a text, and once more from the cache."""
    options = compose_options(f"data={data}", f"data.path={path}", f"data.cache_dir={cache}", *TOKENIZERS[tokenizer])
    before = memory(os.getpid())
    seconds, cpu = time.perf_counter(), processor_seconds()
    built = build_data(options, 0)
    seconds, cpu = time.perf_counter() - seconds, processor_seconds() - cpu
    again = time.perf_counter()
    assert isinstance(built, TextData) and isinstance(build_data(options, 0), TextData)
    return {"seconds": seconds, "cpu": cpu, "before": before, "again": time.perf_counter() - again}


def processor_seconds() -> float:
    """Of this process and those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def memory(pid: int) -> int:
    """Resident bytes of a process and of all that it has started; what they share counts once (Pss)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    own = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return own * 1024 + sum(memory(int(child)) for child in children)


def watched(data: str, path: Path, tokenizer: str) -> tuple[dict[str, float], int]:
    """What reading took, and the most memory."""
    with tempfile.TemporaryDirectory(dir=path.parent) as cache:
        command = [sys.executable, __file__, "--read", data, str(path), tokenizer, cache]
        peak = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            while child.poll() is None:
                peak = max(peak, memory(child.pid))
                time.sleep(0.05)
            assert child.stdout is not None
            return json.loads(child.stdout.read().splitlines()[-1]), peak


def main() -> None:
    """Make the texts one after another, read each with every tokenizer, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="millions of bytes")
    parser.add_argument("--tokenizers", nargs="+", default=[*TOKENIZERS], choices=[*TOKENIZERS])
    parser.add_argument("--data", nargs="+", default=["plain_text"], choices=["plain_text", "text_file"])
    parser.add_argument("--folder", default=None, help="where the texts lie for a while")
    parser.add_argument("--read", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read(*arguments.read)))
        return
    known = words()
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for data in arguments.data:
        for size in arguments.sizes:
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                path = Path(folder) / ("text.csv" if data == "text_file" else "text.txt")
                make(path, size, known, table=data == "text_file")
                for tokenizer in arguments.tokenizers:
                    took, peak = watched(data, path, tokenizer)
                    rate, before = path.stat().st_size / 1e6 / took["seconds"], took["before"] / 1e6
                    cells = [f"{took['seconds']:.1f}", f"{rate:.1f}", f"{took['cpu']:.1f}", f"{peak / 1e6:,.0f}"]
                    cells += [f"{before:,.0f}", f"{took['again']:.1f}"]
                    print(f"| {data} | {size} | {tokenizer} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
