"""``python -m src.generate`` and the other doors on a language model, as a user types them."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import environment, write_reviews

from deep_rnn import DeepRNN, stack
from src.errors import RequestError
from src.generate import read_prompt
from src.modules.language_model import LanguageModel
from src.tasks.sampling import chooser, generate

Typed = Callable[..., tuple[int, str, str]]
QUICK = ["model=gru", "depth=1", "width=16", "batch_size=4", "lr=0.03", "logger=none"]
TRAIN = [*QUICK, "task.embedding=8", "task.bptt=10"]
WRONG = [
    (["prompt=abc€x§"], "never seen the character '€', 'x', '§'"),
    (["prompt="], "prompt='': holds no character"),
    (["prompt=a", "temperature=-1"], "temperature=-1: should be greater than or equal to 0"),
    (["prompt=a", "temperature=hot"], "temperature=hot: should be a valid number"),
    (["prompt=a", "length=0"], "length=0: should be greater than or equal to 1"),
    (["prompt=a", "top_k=0"], "top_k=0: should be greater than or equal to 1"),
    (["prompt=a", "top_p=1.5"], "top_p=1.5: should be less than or equal to 1"),
    (["prompt=a", "seed=-1"], "seed=-1: should be greater than or equal to 0"),
    (["prompt=a", "topk=3"], "topk=3: no such key (did you mean top_k?)"),
    (["prompt=a", "length=2", "device=cuda:99"], "device=cuda:99"),
]


def test_a_run_writes_on_is_judged_judges_texts_and_refuses_nonsense(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "text, a=b.txt").write_text("abcd " * 400)
    code, _, err = typed(
        "train",
        "data=plain_text",
        f"data.path={tmp_path}/text, a=b.txt",
        *TRAIN,
        "epochs=3",
        "hydra.run.dir=run",
    )
    assert (code, err) == (0, "")
    code, out, err = typed("generate", "run=run", "prompt=abcd ab", "length=43", "temperature=0")
    assert (code, out) == (0, "abcd ab" + "cd " + "abcd " * 8 + "\n")
    assert "43 tokens, " in err and "tokens/s, after a prompt of 7 read in " in err
    assert "1 tokens, after a prompt of 1 read in " in typed("generate", "run=run", "length=1", "prompt=a")[2]
    cold = typed("generate", "run=run", "prompt=abcd ab", "length=43", "temperature=1e-310")
    assert cold[:2] == (code, out), "next to no temperature is no temperature"
    assert typed("generate", "run=run", "length=3", "temperature=0", stdin="abcd ab\n")[1] == "abcd abcd \n"
    long = typed("generate", "run=run", "length=3", "temperature=0", stdin="abcd " * 5000 + "ab\n")
    assert long[1].endswith("abcd abcd \n") and "after a prompt of 25002" in long[2]

    drawn = [typed("generate", "run=run", "prompt=a", "temperature=9", f"seed={seed}")[1] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert typed("generate", "run=run", "prompt=a", "temperature=9", "top_k=1", "length=4")[1] == "abcd \n"
    assert typed("generate", "run=run", "prompt=a", "temperature=9", "top_p=1e-9", "length=4")[1] == "abcd \n"

    code, out, _ = typed("evaluate", "run=run")
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and found["val/perplexity"] < 1.2 < found["val/baseline"] and found["val/bits_per_character"] < 0.3
    code, out, _ = typed("evaluate", "run=run", "data.cache_dir=null")
    assert code == 0 and json.loads(out.splitlines()[-1]) == found, "the run's own held-out part, however it is read"
    code, _, err = typed("evaluate", "run=run", "data.holdout=0.5")
    assert code == 2 and "another holdout than the run's own" in err
    code, _, err = typed("evaluate", "run=run", "data/tokenizer=bpe")
    assert (code, err) == (2, "error: data/tokenizer: the run has made this choice and keeps it; leave that out\n")
    reviews = write_reviews(tmp_path / "labelled.csv")
    code, _, err = typed("evaluate", "run=run", "data=text_file", f"data.path={reviews}")
    assert code == 0, err  # whose labels say nothing to a language model
    code, out, _ = typed("predict", "run=run", stdin="abcd abcd\naabbccdd\na\n")
    usual, odd, short = (json.loads(line) for line in out.splitlines())
    assert code == 0 and usual["perplexity"] < odd["perplexity"] and short == {"tokens": 1, "perplexity": None}
    assert (tmp_path / "run" / "sample.txt").read_text().startswith("abcd ")
    assert typed("train", "resume=run", "epochs=4")[0] == 0

    enough = [sys.executable, "-m", "src.generate", "run=run", "prompt=a", "length=20000"]
    with subprocess.Popen(
        enough, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None and writer.stderr is not None
        writer.stdout.read(3)
        writer.stdout.close()  # as `head` does
        assert writer.stderr.read() == b"" and writer.wait() == 128 + signal.SIGPIPE

    for arguments, said in WRONG:
        code, out, err = typed("generate", "run=run", *arguments)
        assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1
    sys.stdin = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfab\r\na\r\n"))
    assert read_prompt() == "ab\na"  # as training reads such a file
    sys.stdin = io.TextIOWrapper(io.BytesIO(b"ab\na\xff"))
    with pytest.raises(RequestError, match="standard input, line 2: not UTF-8 text"):
        read_prompt()


def test_a_held_out_part_too_short_for_a_training_chunk_can_be_probed(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcd\n" * 800)
    short = ["data=plain_text", "data.path=text.txt", "data.holdout=0.05", "diagnostics=probe"]
    code, _, err = typed("train", *short, *TRAIN, "batch_size=32", "epochs=1", "hydra.run.dir=run")
    assert (code, err) == (0, "") and (tmp_path / "run" / "DONE").exists()


def test_a_classifier_cannot_write_and_a_language_model_of_words_reads_unknown_ones(
    typed: Typed, tmp_path: Path
) -> None:
    reviews = write_reviews(tmp_path / "reviews.csv")
    data = ["data=text_file", f"data.path={reviews}", "epochs=1", "logger=none"]
    assert typed("train", *data, "width=4", "hydra.run.dir=classifier")[0] == 0
    code, _, err = typed("generate", "run=classifier", "prompt=the film")
    assert code == 2 and "task=classification; only a language model can write" in err

    assert typed("train", *data, "task=language_model", *TRAIN, "hydra.run.dir=words")[0] == 0
    code, out, err = typed("generate", "run=words", "prompt=The zebra was", "length=5")
    assert code == 0 and out.startswith("The zebra was ") and "does not know the word 'zebra'" in err
    assert "<unk>" not in out and "<pad>" not in out
    (tmp_path / "other.txt").write_text("the film was wonderful and the plot was dreadful")
    code, out, _ = typed("evaluate", "run=words", "data=plain_text", f"data.path={tmp_path}/other.txt")
    assert code == 0 and json.loads(out.splitlines()[-1])["examples"] == 1
    code, _, err = typed("train", *data, "task=language_model", *TRAIN, "bidirectional=true", "hydra.run.dir=both")
    assert code == 2 and "bidirectional=false" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "both").exists()


def test_text_by_pieces_of_words_comes_whole(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("naïve café – " * 300, encoding="utf-8")
    pieces = ["data/tokenizer=bpe", "data.tokenizer.vocab_size=270", "task.embedding=16", "width=32"]
    arguments = [
        "data=plain_text",
        f"data.path={tmp_path}/a.txt",
        *TRAIN,
        *pieces,
        "epochs=8",
        "hydra.run.dir=run",
    ]
    assert typed("train", *arguments)[0] == 0
    code, out, _ = typed("generate", "run=run", "prompt=naïve café –", "length=60", "temperature=0")
    assert code == 0 and "\N{REPLACEMENT CHARACTER}" not in out and out.startswith("naïve café – naïve café – naïve")


def test_a_token_costs_one_step_however_long_the_text_is(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = LanguageModel(9, 4, DeepRNN(4, 4, 2, cell="lstm")).eval()
    steps: list[tuple[int, ...]] = []
    original = stack.run
    monkeypatch.setattr(stack, "run", lambda rnn, x, *rest: steps.append(tuple(x.shape)) or original(rnn, x, *rest))
    tokens = generate(model, torch.randint(2, 9, (50,)), chooser(1.0, None, None, 0))
    for _ in range(200):
        next(tokens)
    assert steps == [(50, 1, 4), *[(1, 1, 4)] * 199]


def test_draws_follow_the_probabilities_and_are_cut_where_asked() -> None:
    log_p = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()  # id 1 is what is unknown, and never drawn
    draw = chooser(1.0, None, None, seed=0)
    shares = torch.bincount(torch.tensor([draw(log_p) for _ in range(4000)]), minlength=4) / 4000
    torch.testing.assert_close(shares, torch.tensor([4, 0, 2, 1]) / 7, rtol=0, atol=0.03)
    colder = chooser(0.5, None, None, seed=0)
    assert sum(colder(log_p) == 0 for _ in range(1000)) / 1000 == pytest.approx(16 / 21, abs=0.05)
    for options, allowed in [((2, None), {0, 2}), ((None, 0.5), {0}), ((None, 0.6), {0, 2}), ((None, 1.0), {0, 2, 3})]:
        pick = chooser(1.0, *options, seed=1)
        assert {pick(log_p) for _ in range(200)} == allowed
