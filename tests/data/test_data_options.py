"""conf/data: complete, and strict about what it is given."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import ValidationError

from src.choices import known, module_of
from src.data.options import TextOptions, WordOptions

CONF = Path(__file__).parents[2] / "conf"
TEXTS = [name for name in known("data") if issubclass(module_of("data", name).Options, TextOptions)]
TOKENIZERS = sorted(path.stem for path in (CONF / "data" / "tokenizer").glob("*.yaml"))


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base=None):
        data = compose("config", list(overrides)).data
    return OmegaConf.to_container(data, resolve=True)


def options(*overrides: str) -> TextOptions:
    content = composed(*overrides)
    return module_of("data", content["name"]).Options.model_validate(content)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", TEXTS)
def test_every_combination_composes_to_its_class(name: str, tokenizer: str) -> None:
    made = options(f"data={name}", f"data/tokenizer={tokenizer}", "++data.path=here" if name != "imdb" else "+x=1")
    assert made.name == name
    assert made.tokenizer.name == tokenizer
    assert set(composed(f"data={name}")) == set(type(made).model_fields)


def test_the_default_is_the_set_up_of_the_keras_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEP_RNN_CACHE", raising=False)
    made = options("data=imdb")
    assert (made.max_length, made.keep, made.holdout, made.cache_dir) == (100, "last", 0.2, "outputs/cache")
    assert isinstance(made.tokenizer, WordOptions)
    assert (made.tokenizer.vocab_size, made.tokenizer.rule, made.tokenizer.lowercase) == (10_000, "words", True)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEP_RNN_CACHE", "/elsewhere")
    assert options("data=imdb").cache_dir == "/elsewhere"


def test_every_file_opens_with_a_line_that_says_what_it_is_for() -> None:
    for path in (CONF / "data").rglob("*.yaml"):
        assert path.read_text().startswith("# "), path


@pytest.mark.parametrize(
    "override",
    [
        "data.max_length=0",
        "data.max_length=1.5",
        "data.keep=middle",
        "data.holdout=0",
        "data.holdout=1",
        "data.split_seed=-1",
        "data.tokenizer.vocab_size=2",
        "data.tokenizer.min_freq=0",
        "data.tokenizer.rule=letters",
        "data.tokenizer.name=char",
        "+data.max_len=5",
        "+data.tokenizer.size=5",
    ],
)
def test_values_out_of_range_and_unknown_keys_are_refused(override: str) -> None:
    with pytest.raises(ValidationError):
        options("data=imdb", override)
