"""Judge a trained run.

    python -m src.evaluate run=RUN_DIR [split=val] [device=auto] [data=text_file data.path=FILE ...]

prints one JSON object of metrics, last of all. Without ``data=`` or ``data.path=`` the run is judged on the data it was
trained on (split=val, train, test); with them on other data, encoded as the run encodes.
"""

import json
import sys
from pathlib import Path

from src.arguments import compose_data, names_other_data, read_arguments
from src.cli import open_door
from src.errors import RequestError


def main() -> None:
    """Evaluate ``run`` on a split and print its metrics."""
    request, overrides = read_arguments(sys.argv[1:], ["run"], ["split", "device"], __doc__, "data")
    from src.data.build import build_data  # late: a wrong request needs no torch
    from src.data.options import TextOptions
    from src.restore import keep_encoder, restore
    from src.tracking.metrics_file import plain_number
    from src.training import evaluate

    folder, split = request["run"], request.get("split", "val")
    run = restore(folder, request.get("device", "auto"))
    own, seed = run.cfg.data, run.cfg.seed
    options = compose_data(own, overrides) if overrides else own
    same_data = not names_other_data(overrides)
    if same_data and options.held_out(seed) != own.held_out(seed):
        raise RequestError("another holdout than the run's own holds what it was trained on; leave that out")
    if same_data and isinstance(options, TextOptions):
        data = build_data(options, seed)
        if data.encoder is not None:
            keep_encoder(Path(folder), data.encoder)
    else:
        data = build_data(options, seed, run.encoder)
        run.spec.refuse_other(data.spec, options.name)
    batches = run.task.batches(data, split, run.cfg.batch_size, bucket=run.cfg.trainer.bucket)
    metrics = evaluate(run.task, run.model, batches, run.device, run.cfg.amp).compute()
    result = {f"{split}/{name}": plain_number(value) for name, value in metrics.items()}
    baseline = run.task.baseline(data, split).get(run.cfg.trainer.monitor.rpartition("/")[2])
    if baseline is not None:
        result[f"{split}/baseline"] = baseline  # what the trivial predictor reaches in the monitored metric
    print(json.dumps(result | {"examples": len(data.splits[split])}))


if __name__ == "__main__":
    open_door(main)
