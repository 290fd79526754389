"""What a run writes: its folder, metrics.jsonl, Weights & Biases, and the console."""

from src.tracking.metrics_file import read_metrics
from src.tracking.run_folder import RunFolder
from src.tracking.silent import SilentTracker
from src.tracking.tracker import Tracker

__all__ = ["RunFolder", "SilentTracker", "Tracker", "read_metrics"]
