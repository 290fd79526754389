"""Train a deep recurrent network: ``python -m src.train model=gru depth=3``."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from src import cli
from src.config import Config


def train(cfg: Config, folder: Path) -> float:
    print(cfg, folder)
    return 0.0


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Hydra's entry; what it returns is what a sweeper searches on."""
    return cli.job(cfg, train)


if __name__ == "__main__":
    cli.train_door(main)
