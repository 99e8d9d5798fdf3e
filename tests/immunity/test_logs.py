"""What plugins print holds up neither them nor anybody else, whatever becomes of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from spiral_host import Host
from tests.hosts import Run, all_ready, eventually
from tests.immunity.parts import write_plugin

PIPE = 64 * 1024
"""Bytes that a pipe takes without a reader."""

PRINTS = """
import os, sys
from plugin_worker import Plugin


class Service:
    def say(self, text, times=1):
        for _ in range(times):
            sys.stdout.write(text)
        sys.stdout.flush()
        return os.getpid()


class Made(Plugin):
    def on_load(self, ctx):
        ctx.register_service("prints", Service())
"""


def log_of(host: Host) -> Path:
    """Give the file of what the plugin has printed."""
    return Path(str(host.status()["logs"])) / "prints.log"


@pytest.fixture
def prints(shared: Host, tmp_path: Path) -> Iterator[Host]:
    assert all_ready(shared.load(write_plugin(tmp_path, "prints", PRINTS)))
    yield shared
    shared.unload("prints")


def test_a_line_without_an_end_stops_no_reader(prints: Host) -> None:
    """hashicorp/go-plugin#98, #323, stashapp/stash#7170: a line of more than 64 KiB ended the
    reader, and the plugin blocked or got an error. Here bytes are read, and lines are no matter.
    """
    stub, before = prints.get_service("prints"), log_of(prints).stat().st_size
    line = 4 * PIPE
    assert stub.say("x", line) == prints.get("prints").pid
    stub.say("\nafter\n")
    eventually(lambda: log_of(prints).stat().st_size >= before + line + len("\nafter\n"))
    assert prints.logs("prints")[-1] == "after"


def test_output_is_read_while_there_is_no_daemon(run: Run, tmp_path: Path) -> None:
    """python-lsp/python-lsp-server#380, autozimu/LanguageClient-neovim#101, moby/moby#22502: output
    that nobody read filled its pipe, and the child never came back from a print. Here the node
    reads, which lives on when its daemon dies.
    """
    host = run.start()
    assert all_ready(host.load(write_plugin(tmp_path, "prints", PRINTS)))
    stub, worker = host.get_service("prints"), host.get("prints").pid
    log = log_of(host)
    run.kill_daemon()
    before = log.stat().st_size
    assert stub.say("y" * PIPE, 4) == worker
    eventually(lambda: log.stat().st_size >= before + 4 * PIPE)
    run.start_daemon()
    assert run.connect().get("prints").pid == worker


def test_a_full_disk_blocks_no_print(shared: Host, tmp_path: Path) -> None:
    """containerd/nerdctl#4591: what copied the output ended at the first "no space left", and the
    program blocked in its next print for ever. Here what the disk does not take is dropped.
    """
    log = log_of(shared)
    log.unlink(missing_ok=True)
    log.symlink_to("/dev/full")
    assert all_ready(shared.load(write_plugin(tmp_path, "prints", PRINTS)))
    stub = shared.get_service("prints")
    for _ in range(4):
        assert stub.say("z" * PIPE) == shared.get("prints").pid
    shared.unload("prints")
    log.unlink()
    assert shared.get_service("polite").add(1, 1) == 2
