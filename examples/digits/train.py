"""Train a classifier of handwritten digits whose parts are plugins, and crash one on the way.

This is the application: it owns the training loop and the parameters. Data, arithmetic, loss,
optimizer, telemetry and picture are services of plugins, each in a sandboxed process of its own.
Exits with 1 when the result is poor or when the crash hurt anyone but the plugin that crashed.
"""

import sys
from math import ceil
from pathlib import Path
from queue import Empty, SimpleQueue

import click
from display import Display
from network import Network
from rich.console import Console
from sabotage import crash_saboteur, find_damage
from services import Services, find_services

from spiral_host import Host, PluginEvent, SpiralHostError

HERE = Path(__file__).resolve().parent
EPOCHS = 30
BATCH = 64
GOAL = 0.93
"""Lowest test accuracy that counts as success; a training without a fault reaches 0.98."""
CLOSING = 30.0
"""Longest wait for the plugins' last words, seconds; the first picture ever needs the most."""


@click.command(help=__doc__)
@click.option(
    "--out",
    type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    default=HERE.parents[1] / "build" / "digits",
    help="Folder for what the plugins write, the picture among it.",
)
def main(out: Path) -> None:
    """Start the plugins, train, and judge the outcome."""
    display = Display(Console(), EPOCHS)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with Host(plugins=[str(HERE / "plugins")], data_dir=out, best_effort=True) as host:
            complaints = run(host, display)
    except SpiralHostError as error:
        complaints = [f"{type(error).__name__}: {error}"]
    for complaint in complaints:
        display.say(f"FAILED: {complaint}", "bold red")
    sys.exit(1 if complaints else 0)


def run(host: Host, display: Display) -> list[str]:
    """Train once; return what went wrong, one line each."""
    plugins = host.initialize_all()
    display.show_sandbox(host.status()["sandbox"])
    unusable = [f"{p.id} is {p.state}: {p.reason}" for p in plugins if p.state != "ready"]
    if unusable:
        return unusable
    services = find_services(host)
    accuracy = train(host, services, display)
    silent = wait_for_last_words(host)
    after = host.health()
    display.show_telemetry(services.telemetry.report())
    display.show_plugins(after)
    display.say(f"test accuracy: {accuracy:.4f}", "bold")
    display.say(f"picture: {services.chart.picture()}")
    poor = [f"test accuracy {accuracy:.4f} is below {GOAL}"] if accuracy < GOAL else []
    return poor + silent + find_damage(plugins, after)


def train(host: Host, services: Services, display: Display) -> float:
    """Go through all epochs, with a crash in the middle; return the last test accuracy."""
    network = Network(services, host.publish)
    test_pixels, test_labels = services.data.test_set()
    accuracy = 0.0
    with display.training():
        for epoch in range(1, EPOCHS + 1):
            host.publish(PluginEvent.EpochStart(epoch=epoch))
            loss = train_epoch(host, services, network, epoch, display)
            host.publish(PluginEvent.EpochEnd(epoch=epoch, loss=loss))
            accuracy = network.accuracy(test_pixels, test_labels)
            host.publish(PluginEvent.custom("Accuracy", {"epoch": epoch, "test": accuracy}))
            display.show_epoch(epoch, loss, accuracy)
    return accuracy


def train_epoch(
    host: Host, services: Services, network: Network, epoch: int, display: Display
) -> float:
    """Learn from every batch once; return the mean loss. Half-way in all, the saboteur strikes."""
    batches = ceil(services.data.train_count() / BATCH)
    losses = []
    for index in range(batches):
        if (epoch, index) == (EPOCHS // 2, batches // 2):
            display.show_crash(crash_saboteur(host))
        losses.append(network.learn(*services.data.train_batch(epoch, index, BATCH)))
    return sum(losses) / batches


def wait_for_last_words(host: Host) -> list[str]:
    """Tell the plugins that training is over; return who did not answer, one line each.

    Telemetry and Visualization answer `TrainingEnd` with an event of their own. Events of one
    sender arrive in order, so once they have answered, their services know of every epoch.
    """
    answers: SimpleQueue[PluginEvent] = SimpleQueue()
    awaited = {"Telemetry", "PictureSaved"}
    for event_type in awaited:
        host.subscribe(event_type, answers.put)
    host.publish(PluginEvent.custom("TrainingEnd", {"epochs": EPOCHS}))
    while awaited:
        try:
            awaited.discard(answers.get(timeout=CLOSING).type)
        except Empty:
            break
    return [f"no {event_type} event came within {CLOSING:.0f} s" for event_type in awaited]


if __name__ == "__main__":
    main()
