"""Everything stops within its budget, whatever some plugins make of it."""

import time
from pathlib import Path
from typing import Final

from tests.chaos.conftest import Scale, Tell
from tests.chaos.copies import copies_of
from tests.chaos.table import Row
from tests.hosts import Run, Watch, all_ready

PLUGINS: Final = Path(__file__).parent / "plugins"
QUIET: Final = 45
STUBBORN: Final = 5
MOST_S: Final = 8.0


def test_fifty_workers_stop(run: Run, tmp_path: Path, scale: Scale, tell: Tell) -> None:
    """In 8 s, five of them ignoring every word; the daemon leaves by 0 and nobody is left."""
    host = run.start()
    stubborn = list(copies_of(PLUGINS / "stubborn", STUBBORN, tmp_path))
    for copy in stubborn:
        manifest = copy / "plugin.toml"
        manifest.write_text(manifest.read_text().replace("stop_s = 5", f"stop_s = {scale.stop_s}"))
    assert all_ready(host.load([*copies_of(PLUGINS / "quiet", QUIET, tmp_path), *stubborn]))
    watches = [Watch(plugin.pid or 0) for plugin in host.list_plugins()]
    began = time.monotonic()
    run.daemon.terminate()
    assert run.daemon.wait(60.0) == 0
    took_s = time.monotonic() - began
    left = sum(not watch.has_ended(0.0) for watch in watches)
    tell(
        f"{len(watches)} workers stopped, {STUBBORN} of them stubborn",
        [
            Row(what="time", found=took_s, unit="s", most=MOST_S),
            Row(what="workers left", found=left, of=len(watches), most=0),
        ],
    )
    assert left == 0
    assert run.processes() == []
    assert took_s >= scale.stop_s, "they were not as stubborn as they were meant to be"
    assert took_s <= MOST_S
