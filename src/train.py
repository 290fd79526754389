"""Train a deep recurrent network: ``python -m src.train model=gru depth=3``."""

from contextlib import ExitStack
from pathlib import Path

import hydra
from omegaconf import DictConfig

from src import cli
from src.choices import CONF
from src.config import Config


def train(cfg: Config, folder: Path) -> float | None:
    """Train the run that ``cfg`` describes in ``folder``, and return the best value of its monitored metric."""
    from src.data.build import build_data  # late: --help and a wrong request need no torch
    from src.restore import keep_encoder
    from src.sweeps.pruning import pruning_rule
    from src.tasks.build import build_task
    from src.tasks.stack import input_size, spend_budget
    from src.tracking import RunFolder, SilentTracker, Tracker
    from src.training import Trainer, join, prepare
    from src.transfer import start_from_run

    device = prepare(device=cfg.device, seed=cfg.seed, deterministic=cfg.deterministic, threads=cfg.threads)
    with ExitStack() as stack:
        world = stack.enter_context(join(device, cfg.trainer.timeout_minutes))
        data = world.in_turn(lambda: build_data(cfg.data, cfg.seed))
        task = build_task(cfg, data.spec)
        cfg = spend_budget(cfg, input_size(cfg, data.spec))
        model = task.build_model(cfg, data.spec)
        resume = cfg.resume is not None
        if cfg.init_from is not None and not resume:
            start_from_run(cfg.init_from, cfg, model, data)
        if world.main:
            stack.enter_context(RunFolder(folder, cfg.to_dict() | {"resume": None}, resume=resume))
            if data.encoder is not None:
                keep_encoder(folder, data.encoder)
        tracker = stack.enter_context((Tracker if world.main else SilentTracker)(cfg, folder))
        trainer = Trainer(cfg, model, task, data, tracker, folder, device, world)
        trainer.prune = pruning_rule(cfg, folder)
        if resume:
            trainer.resume()
        summary = trainer.fit()
    return summary["best"].get(cfg.trainer.monitor)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Hydra's entry; what it returns is what a sweeper searches on."""
    return cli.job(cfg, train)


if __name__ == "__main__":
    cli.train_door(main)
