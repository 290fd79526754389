"""Runs on Ray: a local one, or a cluster. Hydra's own plugin for it holds Ray's and joblib's dependencies back."""

import logging
from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from src.errors import RequestError

log = logging.getLogger(__name__)


class RayLauncher(Launcher):
    """Makes each run a Ray task with its share of CPUs and GPUs.

    Args: see ``conf/hydra/launcher/ray.yaml``.
    """

    __module__ = "hydra_plugins.deep_rnn"  # see `src.sweeps.sweeper.register`

    def __init__(self, address: str | None, cpus: float, gpus: float, retries: int) -> None:
        self.address = address
        self.share = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": retries}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run all jobs and wait for them; one whose process dies for good does not disturb the others.

        Raises:
            RequestError: Ray is not installed, or there is no cluster at the address.
        """
        try:
            import ray as module
        except ImportError as error:
            raise RequestError("launcher=ray needs Ray: pip install -e '.[ray]'") from error
        ray: Any = module
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if not ray.is_initialized():
            try:
                ray.init(address=self.address, log_to_driver=True, include_dashboard=False, configure_logging=False)
            except (ConnectionError, ValueError) as error:
                raise RequestError(f"hydra.launcher.address={self.address}: {' '.join(str(error).split())}") from error
        task = ray.remote(**self.share)(_run)
        tasks = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id, config.hydra.job.num = f"ray_{number}", number
            tasks.append(task.remote(config, self.task_function, self.hydra_context.callbacks, Singleton.get_state()))
        return [_result(ray, task) for task in tasks]


def _result(ray: Any, task: Any) -> JobReturn:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:  # its process died, and again each time it was retried
        log.error("%s: %s", type(error).__name__, str(error).splitlines()[0])
        return JobReturn()


def _run(config: DictConfig, task_function: TaskFunction, callbacks: Any, state: Any) -> JobReturn:
    """In Ray's process."""
    setup_globals()
    Singleton.set_state(state)
    context = HydraContext(config_loader=None, callbacks=callbacks)  # type: ignore[arg-type]  # what there is to load is loaded
    return run_job(task_function, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
