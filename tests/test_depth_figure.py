"""The figure of depth shows the runs that it was asked for, and no others."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

import depth_figure


def test_trying_it_out_with_other_settings_leaves_the_folder_of_the_figure_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used: list[str] = []
    monkeypatch.setattr(depth_figure, "train", lambda folder, seeds, overrides: used.append(str(folder)))
    monkeypatch.setattr(depth_figure, "draw", lambda folder, path: used.append(str(folder)))
    monkeypatch.setattr(depth_figure, "table", lambda folder: used.append(str(folder)))

    def folder_of(*arguments: str) -> str:
        used.clear()
        monkeypatch.setattr(sys, "argv", ["depth_figure.py", *arguments])
        depth_figure.main()
        assert len(used) == 3 and len(set(used)) == 1
        return used[0]

    plain = folder_of()
    assert plain == "outputs/sweeps/depth_figure"
    assert folder_of("--seeds", "3") == folder_of("launcher=joblib") == plain  # more of the same runs
    tried = folder_of("max_steps=50")
    assert tried not in (plain, folder_of("max_steps=60")) and Path(tried).parent == Path(plain).parent
    assert folder_of("--folder", str(tmp_path), "max_steps=50") == str(tmp_path)
