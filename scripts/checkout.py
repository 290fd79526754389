"""Imported first by the scripts that need the training program: ``src`` is found in the checkout that they lie in."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
