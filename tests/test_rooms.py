"""The rooms of the house: imports run one way, also those inside functions, and the library stands alone."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"


def module_name(path: Path) -> str:
    """What a file is imported as: the library as ``deep_rnn``, the program as ``src``."""
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    parts = parts[1:] if parts[:2] == ("src", "deep_rnn") else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, source: str) -> Iterator[str]:
    """Every name that a file imports, anywhere in it; ``from a import b`` counts as ``a.b``."""
    package = module_name(path).split(".") if path.name == "__init__.py" else module_name(path).split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def graph(sources: dict[Path, str]) -> dict[str, set[str]]:
    """From each module to those that it imports."""
    known = {module_name(path) for path in sources}
    found: dict[str, set[str]] = {}
    for path, source in sources.items():
        names = imported(path, source)
        modules = {name if name in known else name.rpartition(".")[0] for name in names}
        found[module_name(path)] = modules & known - {module_name(path)}
    return found


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in SRC.rglob("*.py")}


def test_no_module_imports_itself_by_way_of_others(sources: dict[Path, str]) -> None:
    TopologicalSorter(graph(sources)).prepare()  # raises CycleError, which names the modules of the circle


def test_a_circle_is_found_also_where_an_import_stands_in_a_function() -> None:
    made = {SRC / "a.py": "def late():\n    from src.rooms import b\n", SRC / "rooms/b.py": "from .. import a\n"}
    with pytest.raises(CycleError) as error:
        TopologicalSorter(graph(made)).prepare()
    assert {"src.a", "src.rooms.b"} <= set(error.value.args[1])


def test_the_library_imports_nothing_of_the_program_and_has_one_name(sources: dict[Path, str]) -> None:
    tests = {path: path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("*.py")}
    scripts = {path: path.read_text(encoding="utf-8") for path in (SRC.parent / "scripts").rglob("*.py")}
    wrong = []
    for path, source in (sources | tests | scripts).items():
        names = {f"{name}." for name in imported(path, source)}
        in_library = path.is_relative_to(SRC / "deep_rnn")
        forbidden = "src." if in_library else "src.deep_rnn."
        wrong += [f"{path.relative_to(SRC.parent)} imports {name[:-1]}" for name in names if name.startswith(forbidden)]
    assert not wrong
