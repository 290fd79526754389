"""Many runs: the table that compares them, the pictures, and the page."""

from pathlib import Path


def refresh(folder: str | Path, final: bool = False) -> None:
    """Bring the table and the pictures of a sweep up to date; see `src.sweeps.report.refresh`. It never fails."""
    from src.sweeps.report.refresh import refresh  # late: a job that is about to train needs no pandas

    refresh(folder, final)
