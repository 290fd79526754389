"""A W&B workspace for the project: ``python scripts/dashboard.py [--entity NAME] [--project NAME]``.

With a W&B key the workspace is saved and its address printed; without one (or with ``--json``) it is printed as JSON.
Needs the extra ``dashboard``: ``pip install -e '.[dashboard]'``.
"""

import argparse
import json
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

STEP = "trainer/step"
CHOICES = ("model.cell", "link.name", "depth", "width", "lr", "dropout")


def workspace(entity: str, project: str, metric: str, mode: str) -> ws.Workspace:
    """The workspace: how good by depth and cell, what a sweep chose, how it trained, and what depth did."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name="Depth, cell and learning rate",
        sections=[curves(metric), choices(metric, mode), training(), gradient_flow(), layers()],
        auto_generate_panels=False,
    )


def curves(metric: str) -> ws.Section:
    """The metric over the steps, runs alike in depth, in cell and in link averaged, with their spread."""
    panels = [
        wr.LinePlot(
            title=f"{metric} by {title}", x=STEP, y=[metric], groupby=wr.Config(key), groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for title, key in (("depth", "depth"), ("cell", "model.cell"), ("link", "link.name"))
    ]  # fmt: skip
    return section("Curves by depth and cell", panels)


def choices(metric: str, mode: str) -> ws.Section:
    """Parallel coordinates from the choices to the metric, which choices matter, and quality against cost."""
    best = wr.SummaryMetric(f"{metric}.{mode}")
    logs = {"lr"}
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(key), log=key in logs) for key in CHOICES]
    columns.append(wr.ParallelCoordinatesPlotColumn(best, display_name=metric, inverted=mode == "min"))
    return section(
        "What a sweep chose",
        [
            wr.ParallelCoordinatesPlot(title=f"choices and {metric}", columns=columns),
            wr.ParameterImportancePlot(with_respect_to=metric),
            wr.ScatterPlot(title=f"{metric} against parameters", x=wr.SummaryMetric("params"), y=best, log_x=True),
            wr.ScatterPlot(title=f"{metric} against seconds", x=wr.SummaryMetric("seconds"), y=best, log_x=True),
            wr.ScatterPlot(
                title=f"{metric} by depth and lr", x=wr.Config("lr"), y=wr.Config("depth"), z=best, log_x=True
            ),
        ],
    )


def training() -> ws.Section:
    """Loss, gradient, rate and speed."""
    names = ("train/loss", "val/loss", "train/grad_norm", "train/lr", "train/tokens_per_second")
    return section("Training", [wr.LinePlot(title=name, x=STEP, y=[name]) for name in names])


def gradient_flow() -> ws.Section:
    """The heat maps that ``diagnostics=gradient_flow`` draws, and its curves for each layer."""
    maps = wr.MediaBrowser(title="dLoss/dh by layer and time step", media_keys=["gradient_flow"], num_columns=2)
    titles = {
        "flow": "norm of dLoss/dh by layer",
        "gradient": "norm of dLoss/dW by layer",
        "update": "update / weight by layer",
        "weight": "norm of the weights by layer",
    }
    lines = [by_layer(name, title, log_y=True) for name, title in titles.items()]
    return section("Gradient flow", [maps, *lines])


def layers() -> ws.Section:
    """What ``diagnostics=memory`` and ``diagnostics=probe`` find."""
    panels = [
        by_layer("memory", "mean reach of a layer's memory, in steps"),
        by_layer("probe", "what a linear probe reads off each layer"),
        wr.MediaBrowser(title="memory and probes", media_keys=["memory", "probe"], num_columns=2),
    ]
    return section("Memory and probes", panels)


def by_layer(name: str, title: str, **options: Any) -> wr.LinePlot:
    """A line for each ``name/layer_…`` of the chosen runs; three runs, or nobody can read it."""
    return wr.LinePlot(title=title, x=STEP, metric_regex=f"^{name}/", max_runs_to_show=3, **options)


def section(name: str, panels: list[Any]) -> ws.Section:
    """An open section."""
    return ws.Section(name=name, panels=panels, is_open=True)


def as_json(built: ws.Workspace) -> str:
    """What would be saved."""
    return json.dumps(built._to_model().model_dump(mode="json", by_alias=True, exclude_none=True), indent=2)


def main() -> None:
    """Build, and save or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", default="", help="W&B user or team (default: the key's own)")
    parser.add_argument("--project", default="deep-rnn", help="as logger.project has it (default: deep-rnn)")
    parser.add_argument("--metric", default="val/accuracy", help="what to compare (default: val/accuracy)")
    parser.add_argument("--mode", default="max", choices=("max", "min"), help="which is better (default: max)")
    parser.add_argument("--json", action="store_true", help="print, even with a key")
    chosen = parser.parse_args()
    save = not chosen.json and wandb.login(prompt=False, verify=False)
    entity = chosen.entity or (wandb.Api().default_entity if save else "entity")
    built = workspace(entity or "", chosen.project, chosen.metric, chosen.mode)
    print(built.save().url if save else as_json(built))


if __name__ == "__main__":
    main()
