import shutil
import subprocess

import pytest

from plugin_worker.sandbox import namespaces
from plugin_worker.sandbox.probe import probe


def test_a_trial_that_does_not_end_says_nothing_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    It may be busy. Whoever only asks what there is hears of it all the same.
    """

    def hang(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 10.0)

    monkeypatch.setattr(shutil, "which", lambda _: "/bin/bwrap")
    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(TimeoutError, match="^/bin/bwrap did not end within 10 s$"):
        namespaces.try_namespaces()
    assert probe(["namespaces"])["namespaces"].startswith("/bin/bwrap did not end within 10 s; ")
