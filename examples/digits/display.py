"""Show a training and what became of its plugins. The only module of the demo that prints.

A terminal gets a progress bar and colours; a pipe gets plain lines, one for each epoch.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from sabotage import Crash

from spiral_host import PluginInfo


class Display:
    """Everything the demo has to say, on one console."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._console = console
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("training", total=epochs, figures="")

    def say(self, text: str, style: str | None = None) -> None:
        """Print one line, however long; above the progress bar while there is one."""
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Keep the progress bar alive for as long as the training runs."""
        with self._bar:
            yield

    def show_epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        """Move the bar, or print a line where there is none."""
        figures = f"loss {loss:.4f}  accuracy {accuracy:.4f}"
        self._bar.update(self._task, completed=epoch, figures=figures)
        if not self._console.is_terminal:
            self.say(f"epoch {epoch:2d}/{self._epochs}  {figures}")

    def show_crash(self, crash: Crash) -> None:
        """Tell the story of one crash as its caller saw it."""
        self.say(f"saboteur crashed on purpose: WorkerLost: {crash.error}", "red")
        self.say(
            f"saboteur answers again after {crash.answering_after * 1000:.0f} ms: process "
            f"{crash.pid_before} is gone, {crash.pid_after} took its place; training goes on",
            "green",
        )

    def show_sandbox(self, sandbox: Mapping[str, Any]) -> None:
        """Say which layers of the sandbox this machine lacks, if any."""
        if sandbox["degraded"]:
            missing = ", ".join(sandbox["missing"])
            self.say(f"sandbox: degraded on this machine, without {missing}", "yellow")
        else:
            self.say(f"sandbox: {sandbox['profile']}, every layer in force")

    def show_telemetry(self, report: Mapping[str, Any]) -> None:
        """Print what the telemetry plugin has counted and timed."""
        self.say(
            f"telemetry: {report['tensor_ops']:.0f} tensor operations in "
            f"{report['seconds']:.1f} s of training, {report['tensor_ops_per_second']:.0f} per "
            f"second; {sum(report['events'].values())} events counted"
        )

    def show_plugins(self, plugins: Iterable[PluginInfo]) -> None:
        """Print one row for each plugin."""
        table = Table("plugin", title="Every plugin has a process of its own")
        for heading in ("pid", "calls", "restarts", "memory"):
            table.add_column(heading, justify="right")
        for plugin in plugins:
            figures = (plugin.pid, plugin.calls, plugin.restarts, _mebibytes(plugin.memory))
            table.add_row(plugin.id, *map(str, figures))
        self._console.print(table)


def _mebibytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**20:.0f} MiB"
