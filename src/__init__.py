"""deep-rnn: deep recurrent networks in PyTorch, their training, and sweeps over them."""

import os
import sys
from importlib.util import find_spec

if any(find_spec(name) is None for name in ("hydra", "omegaconf", "pydantic", "torchtext")):
    print("error: the training program needs its extra: pip install -c constraints.txt -e '.[train]'", file=sys.stderr)
    sys.exit(2)

# OpenMP's threads spin while they wait, and those of two trainings on the same cores spin against each other: each then
# takes many times as long. GNU's OpenMP reads this as it is loaded, so it must stand before anything imports torch.
# Here, because this file is the first of the program in every process, also in those of launchers on other machines.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "1000"

# The program is not installed but run from its checkout: processes that a launcher starts elsewhere find it by this.
_checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
if _checkout not in _paths:
    os.environ["PYTHONPATH"] = os.pathsep.join([_checkout, *filter(None, _paths)])
