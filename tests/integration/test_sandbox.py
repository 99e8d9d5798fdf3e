"""What an ordinary plugin under an ordinary host cannot do, and what status says about it."""

import errno
import os
import sys
from pathlib import Path

import pytest

from spiral_host import Host
from tests.hosts import Run, all_ready, eventually, plugin

LAYERS = {"rlimits", "capabilities", "not-dumpable", "no-new-privs", "landlock", "seccomp"}


@pytest.fixture(scope="module")
def confined(shared: Host) -> Host:
    """A host with a snoop in it; without every layer there is nothing to test here."""
    missing = shared.status()["sandbox"]["missing"]
    if missing:
        pytest.skip("; ".join(missing))
    assert all_ready(shared.load(plugin("snoop")))
    return shared


def attempt(host: Host, code: str) -> object:
    return host.get_service("snoop").attempt(code)


def refused(outcome: object, *numbers: int) -> bool:
    return isinstance(outcome, dict) and outcome.get("errno") in (numbers or (errno.EPERM,))


class TestRefusals:
    @pytest.mark.parametrize("path", ["/etc/passwd", "/etc/shadow", "/root", "/proc/1/environ"])
    def test_files_of_others(self, confined: Host, path: str) -> None:
        """Nothing that was not granted can be read."""
        code = f"import os; os.open({path!r}, os.O_RDONLY)"
        assert refused(attempt(confined, code), errno.EACCES)

    @pytest.mark.parametrize(
        "code",
        [
            "import socket; socket.socket()",
            "import socket; socket.socket(socket.AF_UNIX)",
            "import os; os.fork()",
            "import subprocess; subprocess.run(['/bin/true'])",
            "import os; os.execv('/bin/true', ['true'])",
            "import os; os.kill(os.getppid(), 9)",
            "import os; os.kill(1, 9)",
            "import os; os.kill(-1, 9)",
            "import os; os.chmod(ctx.data_dir, 0o777)",
        ],
    )
    def test_what_needs_a_permission(self, confined: Host, code: str) -> None:
        """Network, processes, signals and modes are refused as a missing permission is."""
        assert refused(attempt(confined, code), errno.EPERM, errno.EACCES)

    def test_the_run_directory(self, confined: Host) -> None:
        """Neither the host's sockets nor another plugin's data or log are in reach."""
        status = confined.status()
        other = Path(status["data_dir"]) / "polite"
        for path in (status["run_dir"], str(other), f"{status['run_dir']}/logs/polite.log"):
            assert refused(attempt(confined, f"import os; os.open({path!r}, 0)"), errno.EACCES)
        code = f"open({str(other / 'x')!r}, 'w')"
        assert refused(attempt(confined, code), errno.EACCES)

    def test_plugins_and_libraries_cannot_be_written(self, confined: Host) -> None:
        """Neither its own code nor anything that it imports."""
        for path in (plugin("snoop") + "/snoop.py", plugin("snoop") + "/new.py", os.__file__):
            assert refused(attempt(confined, f"open({path!r}, 'a')"), errno.EACCES)


class TestWhatIsLeft:
    def test_its_data_and_temporary_folders(self, confined: Host) -> None:
        """They are writable; data is kept over a restart, temporary files are not."""
        write = """
import os, tempfile
(ctx.data_dir / "kept").write_text("yes")
with tempfile.NamedTemporaryFile("w", delete=False) as file:
    file.write("gone")
answer = [str(ctx.data_dir), file.name]
"""
        folders = attempt(confined, write)
        assert isinstance(folders, list)
        data, temporary = folders
        assert data == str(Path(confined.status()["data_dir"]) / "snoop")
        assert Path(temporary).exists()
        assert confined.restart("snoop").ok
        assert attempt(confined, "answer = (ctx.data_dir / 'kept').read_text()") == "yes"
        eventually(lambda: not Path(temporary).exists())  # they are removed beside the loop

    def test_its_environment(self, confined: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """A handful of harmless variables, none of the host's own."""
        environment = attempt(confined, "import os; answer = dict(os.environ)")
        assert isinstance(environment, dict)
        assert "PYTEST_CURRENT_TEST" not in environment
        assert not {"PYTHONPATH", "SSH_AUTH_SOCK", "USERNAME", "LD_PRELOAD"} & set(environment)
        assert len(environment) < 20

    def test_numpy(self, confined: Host) -> None:
        """What the host's environment has installed can be imported and works."""
        assert attempt(confined, "import numpy; answer = int(numpy.arange(10).sum())") == 45

    def test_threads_and_memory_of_its_own(self, confined: Host) -> None:
        """It may think as much as it likes."""
        code = "import threading; t = threading.Thread(target=int); t.start(); t.join(); answer = 1"
        assert attempt(confined, code) == 1
        assert attempt(confined, "answer = len(bytearray(50 << 20))") == 50 << 20


class TestWhatIsSaid:
    def test_by_status_and_plugins(self, confined: Host) -> None:
        """The profile, what is missing of it, and for each plugin the layers in force."""
        sandbox = confined.status()["sandbox"]
        assert (sandbox["best_effort"], sandbox["profile"]) == (True, "standard")
        assert sandbox["degraded"] == sandbox["missing"] == []
        for info in confined.list_plugins():
            assert set(info.sandbox) == LAYERS

    def test_standard_is_enforced(self, confined: Host, run: Run) -> None:
        """Where every layer holds it starts, and says the same."""
        host = run.embed("snoop", best_effort=False)
        assert not host.status()["sandbox"]["best_effort"]
        assert refused(attempt(host, "open('/etc/passwd')"), errno.EACCES)

    def test_off_is_off_and_says_so(self, run: Run) -> None:
        """Nothing is refused, and nobody can take it for a sandbox."""
        host = run.embed("snoop", sandbox="off")
        assert host.status()["sandbox"]["profile"] == "NOT SANDBOXED"
        assert host.get("snoop").sandbox == ()
        assert attempt(host, "answer = open('/etc/passwd').read(4)") == "root"
        environment = attempt(host, "import os; answer = dict(os.environ)")
        assert isinstance(environment, dict)
        assert "PYTEST_CURRENT_TEST" not in environment

    def test_a_plugin_is_never_imported_by_anybody_else(self, run: Run, tmp_path: Path) -> None:
        """Its code runs in its own worker only: not here, not in the daemon, not in the node."""
        file = tmp_path / "telltale.py"
        file.write_text(
            "import os\n"
            "from plugin_worker import Plugin, PluginMetadata\n"
            "class Telltale(Plugin):\n"
            "    def metadata(self):\n"
            "        return PluginMetadata('telltale', '1')\n"
            "    def on_load(self, ctx):\n"
            "        ctx.register_service('telltale', Service())\n"
            "print('imported by', os.getpid(), flush=True)\n"
            "class Service:\n"
            "    def pid(self):\n"
            "        return os.getpid()\n"
        )
        host = run.embed()
        assert all_ready(host.load(file))
        assert "telltale" not in sys.modules
        eventually(lambda: host.logs("telltale"))
        assert host.logs("telltale") == [f"imported by {host.get_service('telltale').pid()}"]
        (asked,) = (run.run_dir / "logs").glob(".describe*.log")
        assert "imported by" in eventually(asked.read_text)
        own = {os.getpid(), host.status()["pid"], host.status()["node_pid"]}
        assert int(asked.read_text().split()[2]) not in own
