"""What cases are made of: small data files, and good runs of each kind, trained once."""

import json
import random
from pathlib import Path

WORDS = [
    "the",
    "a",
    "film",
    "plot",
    "cast",
    "music",
    "and",
    "of",
    "it",
    "was",
    "really",
    "so",
    "ünï",
    "日本",
    "e\u0301",
]
SMALL = ["width=4", "depth=1", "batch_size=4", "epochs=1", "max_steps=2", "logger=none", "threads=1"]
"""What keeps a run to a second."""
LIMITED = [*SMALL, "trainer.limit_batches=2"]
TEXT = ["data=text_file", "data.path=reviews.csv", "task.embedding=4"]
LANGUAGE = ["data=plain_text", "data.path=story.txt", "task.embedding=4", "task.bptt=8"]
NUMBERS = ["data=parity", "data.length=6", "data.train_size=16", "data.val_size=8"]
RUNS = {
    "classifier": [*LIMITED, *TEXT],
    "writer": [*LIMITED, *LANGUAGE, "model=gru"],
    "counter": [*LIMITED, *NUMBERS, "model=rnn"],
    "averaged": [*LIMITED, *TEXT, "trainer.average=0.5", "bidirectional=true", "depth=2", "link=residual"],
}
"""Good runs, by name."""


def rows(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Labelled texts."""
    draw = random.Random(seed)
    return [
        (" ".join([*draw.choices(WORDS, k=draw.randint(1, 6)), ("bad", "good")[n % 2]]), ("neg", "pos")[n % 2])
        for n in range(count)
    ]


def write_data(folder: Path) -> None:
    """The small data files that every case finds beside it."""
    table = "".join(f"{text},{label}\n" for text, label in rows(16))
    (folder / "reviews.csv").write_text(f"text,label\n{table}", encoding="utf-8")
    lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows(12, seed=1))
    (folder / "other.jsonl").write_text(lines, encoding="utf-8")
    story = "\n".join(text for text, _ in rows(40, seed=2))
    (folder / "story.txt").write_text(story, encoding="utf-8")
    vectors = "".join(f"{word} 0.1 0.2 0.3 0.4\n" for word in WORDS[:8])
    (folder / "vectors.txt").write_text(vectors, encoding="utf-8")
    (folder / "empty.csv").write_bytes(b"")
    (folder / "a folder").mkdir()
