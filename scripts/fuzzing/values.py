"""Values that are wrong in most places."""

import random

NUMBERS = ["0", "-1", "1", "2", "3", "0.5", "-0.5", "1.5", "1e-3", "1e3", "nan", "inf", "-inf", "1e400", "1e-400"]
HUGE = ["100000000000", "9223372036854775808", "-9223372036854775809", "1" + "0" * 400]
WORDS = [
    "",
    "''",
    "null",
    "true",
    "false",
    "none",
    "auto",
    "cuda",
    "cuda:99",
    "lstm",
    "gruu",
    "x",
    "ünï",
    "日本",
    "e\u0301",
]
NESTED = ["[]", "[1,2]", "[4]", "[null]", "[[1]]", "{}", "{a:1}", "{name:adam}", "[a,1,null]", "[nan]", "[-1,4]"]
PATHS = [
    "a folder",
    "missing.csv",
    "missing/deep.csv",
    "empty.csv",
    "/proc/self",
    "/dev/null",
    ".",
    "..",
    "x" * 300,
    "outputs",
]
SYNTAX = [
    *(
        "a,b",
        "[1,2",
        "{a:",
        "'",
        '"',
        "\\",
        "${lr}",
        "${nothing}",
        "${oc.env:NOTHING}",
        "${",
        "$(id)",
        "???",
        "=",
        "a=b",
    ),
    *(
        "range(3)",
        "range(1,3)",
        "choice(1,2)",
        "interval(0,1)",
        "glob(*)",
        "sort(1)",
        "1 2",
        " ",
        "\t",
        "a\nb",
        "\u200b",
    ),
    *(
        "!!python/object:os.system",
        "%s%n",
        "../../x",
        "~",
        "*",
        "-",
        "--",
        "@",
        "0x10",
        "1_000",
        "٣",
        "\x1b[31m",
        "1e",
        "+1",
    ),
]
EVERY = [NUMBERS, HUGE, WORDS, NESTED, PATHS, SYNTAX]


def broken(draw: random.Random) -> str:
    """One value."""
    return draw.choice(draw.choice(EVERY))


def misspelt(draw: random.Random, word: str) -> str:
    """A word with a letter lost, doubled or swapped."""
    if not word:
        return "x"
    at = draw.randrange(len(word))
    return draw.choice(
        [word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:], word[:at] + "_" + word[at:], word.upper()]
    )
