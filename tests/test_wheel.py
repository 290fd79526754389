"""What `pip install .` brings: the package deep_rnn alone, which needs torch and nothing else."""

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
USE = """
import sys, torch, deep_rnn
layer = deep_rnn.accelerate(torch.nn.LSTM(4, 5, 2))
output, (h, c) = layer(torch.ones(3, 2, 4))
stack = deep_rnn.DeepRNN(4, 5, 2, cell="lem")
stack(torch.ones(3, 2, 4))[0].sum().backward()
print(deep_rnn.explain(layer), "|", deep_rnn.explain(stack))
known = {name.partition(".")[0] for name in sys.modules}
print(sorted(known & {"hydra", "omegaconf", "wandb", "pandas", "pydantic", "sklearn", "torchtext", "numpy"}))
"""


def requirements(name: str) -> set[str]:
    """The distributions that one needs, itself included, extras left out."""
    found, open_ends = set(), [name]
    while open_ends:
        one = open_ends.pop()
        if one in found:
            continue
        try:
            wants = distribution(one).requires or []
        except PackageNotFoundError:
            continue  # of another platform
        found.add(one)
        open_ends += [re.split(r"[^\w.-]", want, maxsplit=1)[0] for want in wants if "extra ==" not in want]
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", *build], check=True, timeout=200)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a venv that holds the wheel, torch and nothing of the rest."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = next(venv.glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    for name in requirements("torch"):
        one = distribution(name)
        for top in {Path(file).parts[0] for file in one.files or [] if ".." not in Path(file).parts}:
            if not (site / top).exists() and top != "__pycache__":
                (site / top).symlink_to(one.locate_file(top))
    return venv / "bin" / "python"


def run(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python code in a folder, without this checkout in sight; kernels that are compiled already are used."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(python), "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.mark.slow
def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"deep_rnn"}
    here = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "deep_rnn").rglob("*") if path.is_file()}
    assert {name for name in here if "__pycache__" not in name} == {name for name in names if "dist-info" not in name}


@pytest.mark.slow
def test_it_runs_with_torch_alone_in_an_empty_folder(python: Path, tmp_path: Path):
    done = run(python, USE, tmp_path)
    assert done.returncode == 0, done.stderr
    explained, others = done.stdout.splitlines()
    assert explained == "LSTM: fused | DeepRNN: layers 0-1 in one call: fused (first choice)"
    assert others == "[]"


@pytest.mark.slow
def test_it_runs_beside_another_projects_own_src(python: Path, tmp_path: Path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "__init__.py").write_text("")
    (tmp_path / "src" / "models.py").write_text("mine = True")
    done = run(python, "import src.models, deep_rnn; assert src.models.mine; print(deep_rnn.LSTM(2, 3))", tmp_path)
    assert done.returncode == 0 and done.stdout == "LSTM(2, 3)\n", done.stderr
