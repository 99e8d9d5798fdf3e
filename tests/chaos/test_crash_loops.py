"""A plugin that crashes in a loop is started as often as its budget says, and not once more."""

from pathlib import Path
from typing import Final

from tests.chaos.conftest import Tell
from tests.chaos.copies import copies_of
from tests.chaos.table import Row
from tests.hosts import Run, eventually

LOOPER: Final = Path(__file__).parent / "plugins" / "looper"
EACH: Final = 3
PATIENCE_S: Final = 60.0


def test_each_budget_is_spent_to_the_last(run: Run, tmp_path: Path, tell: Tell) -> None:
    """Several at once, of several budgets: as many lives as crashes are forgiven, and one more."""
    host, rows = run.start(), []
    for budget in (0, 1, 2, 5):
        (folder := tmp_path / str(budget)).mkdir()
        for copy in copies_of(LOOPER, EACH, folder):
            text = (copy / "plugin.toml").read_text().replace("looper", f"looper{budget}-", 1)
            text = text.replace("crashes = 5", f"crashes = {budget}")
            (copy / "plugin.toml").write_text(text)
        host.load(folder)
    eventually(lambda: {it.state for it in host.list_plugins()} == {"quarantined"}, PATIENCE_S)
    wrong = []
    for plugin in host.list_plugins():
        budget = int(plugin.id.removeprefix("looper").partition("-")[0])
        lives = len(list((run.data_dir / plugin.id).glob("life-*")))
        rows.append(Row(what=f"lives of one with {budget} forgiven", found=lives, most=budget + 1))
        if (lives, plugin.restarts) != (budget + 1, budget):
            wrong.append((plugin.id, lives, plugin.restarts))
    tell("crash loops", rows)
    assert len(rows) == 4 * EACH
    assert wrong == []
