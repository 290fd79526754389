"""A sweep from Python, and its table: does depth help, with which link?

    python docs/examples/researcher.py                    depth 1, 2, 4 with two links, some minutes on two cores
    python docs/examples/researcher.py max_steps=50       any override of conf/ goes after it

The same command again does only what is left. Needs the extra ``train``; run it from the checkout.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # the program lives in the checkout and is not installed

from src.sweeps.report.runs import read_runs  # noqa: E402
from src.sweeps.report.table import compare  # noqa: E402

FOLDER = Path("outputs/sweeps/researcher")

# 1. The question, as a sweep: every combination is a run with a folder of its own.
question = ["model=gru", "depth=1,2,4", "link=none,residual", "seed=0,1", "width=32", "epochs=2", "logger=none"]
where = [f"sweep.name={FOLDER.name}", f"hydra.sweep.dir={FOLDER}"]
command = [sys.executable, "-m", "src.train", "-m", *question, *where, *sys.argv[1:]]
path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
ended = subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": path})
if ended.returncode:
    sys.exit(ended.returncode)

# 2. Its runs: what each was asked for, and its best epoch.
runs = read_runs(FOLDER)
for run in runs:
    print(f"depth {run.config['depth']}, link {run.config['link.name']}: accuracy {run.best['val/accuracy']:.3f}")

# 3. Its table: settings ranked by the mean over their seeds. The folder holds it too, with a page of figures.
compared = compare(runs)
print(f"\nranked by {compared.metric.name}, baseline {compared.baseline:.3f}\n{compared.table.to_string(index=False)}")
print(f"\n{FOLDER}/page.html shows it all")
