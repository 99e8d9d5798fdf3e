"""A machine that lacks a layer, for which a filter stands in: what is said, and what starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from spiral_host import Host
from tests.compiled import compiled
from tests.hosts import DEADLINE, Run, plugin

ROOT = Path(__file__).resolve().parents[2]

WITHOUT = """
import os, sys
import pyseccomp
rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
for name in sys.argv[1].split(","):
    rules.add_rule(pyseccomp.ERRNO(38), name)
rules.load()
os.execv(sys.executable, [sys.executable, "-P", "-m", "spiral_host", *sys.argv[2:]])
"""
"""Become the command line on a kernel that has never heard of some system calls."""


def shell(*words: str, lacking: str = "uselib") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, lacking, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
        cwd=ROOT,
    )


class TestDoctor:
    def test_each_layer_is_tried(self) -> None:
        """
        Whatever this machine has: each layer is named, and the profiles follow from them.
        """
        done = shell("doctor", "--json")

        found = json.loads(done.stdout)
        lacks = {name for name, why in found["layers"].items() if why}
        assert {"rlimits", "capabilities", "landlock", "seccomp"} <= set(found["layers"])
        assert found["profiles"]["standard"] == (not lacks - {"namespaces"})
        assert found["profiles"]["strict"] == (not lacks)
        assert set(found["groups"]) <= {"memory", "pids", "cpu"}
        assert found["compiled"] == bool(compiled(ROOT / "protocol"))
        assert done.returncode == (0 if found["profiles"]["standard"] else 1)
        assert all(found["landlock"].values()) == (found["landlock_abi"] >= 10)

    def test_a_layer_that_is_missing_has_a_reason_and_a_cure(self) -> None:
        """
        People read what to do about it.
        """
        done = shell("doctor", lacking="landlock_create_ruleset")

        (line,) = [line for line in done.stdout.splitlines() if line.startswith("landlock ")]
        assert "missing" in line
        assert "Landlock ABI 0, and 3 is needed; cure: boot Linux >= 6.2" in line
        assert "--sandbox standard: no: landlock" in done.stdout
        assert done.returncode == 1

    def test_plain_python_has_a_cure_and_is_no_failure(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        All works without a compiler, only slower.
        """
        monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/plain"))

        done = shell("doctor")

        (line,) = [line for line in done.stdout.splitlines() if line.startswith("calls: ")]
        assert "plain Python" in line
        assert "cure: a C compiler and Python's headers" in line
        assert "--force-reinstall" in line  # or pip takes what it built before
        assert done.returncode == shell("doctor", "--json").returncode
        assert json.loads(shell("doctor", "--json").stdout)["compiled"] is False


class TestStarting:
    @pytest.mark.parametrize(
        ("layer", "call"), [("landlock", "landlock_create_ruleset"), ("seccomp", "seccomp")]
    )
    def test_a_missing_layer_refuses_the_start(self, run: Run, layer: str, call: str) -> None:
        """
        Nobody gets less than was asked for: the layer is named, the cure too, and nothing runs.
        """
        where = ["--run-dir", str(run.run_dir), "--config-dir", str(run.config_dir)]

        done = shell("start", *where, lacking=call)

        assert done.returncode == 1
        assert f"layers are missing: {layer}: " in done.stderr
        assert "cure: " in done.stderr
        assert "or say --best-effort" in done.stderr
        assert run.processes() == []

    def test_best_effort_starts_and_says_degraded(self, run: Run) -> None:
        """
        With the layers that there are; every status says which are not.
        """
        where = ["--run-dir", str(run.run_dir), "--config-dir", str(run.config_dir)]
        where += ["--data-dir", str(run.data_dir)]

        done = shell(
            "start", "--best-effort", *where, plugin("polite"), lacking="landlock_create_ruleset"
        )
        host = Host.connect(run.run_dir, DEADLINE)
        try:
            assert "sandbox standard, degraded: no landlock" in done.stdout
            assert host.status()["sandbox"]["degraded"] == ["landlock"]
            assert "landlock" not in host.get("polite").sandbox
            assert "seccomp" in host.get("polite").sandbox
        finally:
            host.close()
            shell("stop", "--run-dir", str(run.run_dir))
