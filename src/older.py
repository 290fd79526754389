"""Run folders of older versions: what a key that they do not have meant before there was one."""

from typing import Any

ADDED: dict[str, dict[str, dict[str, Any]]] = {  # group -> name of the choice -> key -> what was done without it
    "data": {
        "imdb": {"stratify": False},
        "imdb_full": {"stratify": False},
        "text_file": {
            "encoding": "utf-8",
            "delimiter": None,
            "header": True,
            "label_separator": None,
            "empty": "refuse",
            "stratify": False,
        },
        "plain_text": {"encoding": "utf-8"},
    },
    "task": {"classification": {"class_weights": None}},
}


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """The content of a run's config.yaml, with the keys that its version did not know."""
    whole = dict(config)
    for group, choices in ADDED.items():
        section = whole.get(group)
        if isinstance(section, dict):
            whole[group] = choices.get(str(section.get("name")), {}) | section
    return whole
