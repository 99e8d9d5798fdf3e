"""Draw the loss and the accuracy of every epoch. Learns both from events and asks nobody."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from plugin_worker import Plugin, PluginContext, PluginEvent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Chart:
    """Two curves over the epochs. Lives in the worker; events go in, a PNG comes out."""

    def __init__(self, figure: "Figure", path: Path) -> None:
        self.path = path
        self._figure = figure
        self._loss: dict[int, float] = {}
        self._accuracy: dict[int, float] = {}

    def note_epoch(self, event: PluginEvent) -> None:
        """Take in an `EpochEnd`."""
        if isinstance(event, PluginEvent.EpochEnd):
            self._loss[event.epoch] = event.loss

    def note_accuracy(self, event: PluginEvent) -> None:
        """Take in an `Accuracy`, an event of the application's own; others of that name pass by."""
        match event.fields():
            case {"data": {"epoch": int(epoch), "test": float(accuracy)}}:
                self._accuracy[epoch] = accuracy

    def draw(self) -> None:
        """Write the picture; a second call replaces the first."""
        self._figure.clear()
        loss, accuracy = self._figure.subplots(1, 2)
        loss.plot(list(self._loss), list(self._loss.values()), color="tab:red")
        loss.set(title="Training loss", xlabel="epoch", ylabel="cross entropy, nats")
        accuracy.plot(list(self._accuracy), list(self._accuracy.values()), color="tab:blue")
        accuracy.set(title="Test accuracy", xlabel="epoch", ylabel="share of digits read right")
        for axes in (loss, accuracy):
            axes.grid(visible=True, alpha=0.3)
        self._figure.savefig(self.path, dpi=120)


class ChartService:
    """What others may ask of the chart."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart

    def picture(self) -> str | None:
        """Return where the picture lies, or None before the first one."""
        return str(self._chart.path) if self._chart.path.exists() else None


class VisualizationPlugin(Plugin):
    """Offers the service `chart`; answers `TrainingEnd` with a `PictureSaved` event."""

    def on_load(self, ctx: PluginContext) -> None:
        """Prepare matplotlib, then listen."""
        # The only folder here that outlives the worker: fonts are searched for once, ever. It has
        # to be known before matplotlib is imported.
        os.environ["MPLCONFIGDIR"] = str(ctx.data_dir / "matplotlib")
        from matplotlib.figure import Figure  # noqa: PLC0415

        path = ctx.data_dir / "training.png"
        path.unlink(missing_ok=True)  # an earlier run's picture would pass for this one's
        chart = Chart(Figure(figsize=(9, 4), layout="constrained"), path)
        ctx.register_service("chart", ChartService(chart))

        def finish(_: PluginEvent) -> None:
            chart.draw()
            ctx.event_bus.publish(PluginEvent.custom("PictureSaved", {"path": str(path)}))

        ctx.subscribe("EpochEnd", chart.note_epoch)
        ctx.subscribe("Accuracy", chart.note_accuracy)
        ctx.subscribe("TrainingEnd", finish)
