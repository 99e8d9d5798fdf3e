"""Plugins do what they ask for and the operator has granted, and do not start before."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import RemoteProtocolError
from protocol.messages import FROM_CLIENT, FROM_WORKER, GrantPermissions, RevokePermissions
from protocol.permissions import EVERYONE, NOTHING, Permissions
from spiral_host import Host, StaticPluginLoader, UsageError
from spiral_host.config import GRANTS
from spiral_host.rundir import AUDIT
from tests.hosts import Run, eventually

DEADLINE = 60.0
"""Seconds for any one command; none needs one of them on a free machine."""

SOURCES = Path(__file__).parents[2]

CODE = """
from plugin_worker import Plugin


class P(Plugin):
    def on_load(self, ctx):
        if BROKEN:
            raise ValueError("broken")
        ctx.register_service(ctx.plugin_id, Service())


class Service:
    def add(self, a, b):
        return a + b

    def read(self, path):
        with open(path) as file:
            return file.read()
"""


@dataclass
class Author:
    """Writes plugins into a folder of its own."""

    folder: Path

    def writes(
        self,
        name: str,
        permissions: str | None = None,
        *,
        version: str = "1.0.0",
        needs: str = "",
        broken: bool = False,
    ) -> str:
        """Write a plugin, or a new version of it, and give its path."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        text = f'[plugin]\nid = "{name}"\nversion = "{version}"\nentry = "p:P"\n'
        if needs:
            text += f'[plugin.dependencies]\n{needs} = "*"\n'
        if permissions is not None:
            text += f"[permissions]\n{permissions}\n"
        (folder / "plugin.toml").write_text(text)
        (folder / "p.py").write_text(CODE.replace("BROKEN", repr(broken)))
        return str(folder)


@pytest.fixture
def author(tmp_path: Path) -> Author:
    return Author(tmp_path / "plugins")


def command(run: Run, *words: str) -> subprocess.CompletedProcess[str]:
    """Type one command line."""
    return subprocess.run(
        [sys.executable, "-m", "spiral_host", "--run-dir", str(run.run_dir), *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )


def state(host: Host, plugin_id: str) -> str:
    return host.get(plugin_id).state


def alarms_of(host: Host, file: Path) -> list[str]:
    """Give what the daemon has to say of a file; that the machine is busy is another matter."""
    return [alarm for alarm in host.status()["alarms"] if str(file) in alarm]


def audited(run: Run, kind: str, at_least: int = 1) -> list[dict[str, Any]]:
    """Give the lines of one kind, once there are so many."""

    def read() -> list[dict[str, Any]]:
        path = run.run_dir / AUDIT
        lines = path.read_text().splitlines() if path.exists() else []
        found = [line for line in map(json.loads, lines) if line["kind"] == kind]
        return found if len(found) >= at_least else []

    return eventually(read)


class TestConsent:
    def test_it_asks_is_blocked_is_granted_and_runs(self, run: Run, author: Author) -> None:
        """
        The whole way, as an operator goes it: what it says leads to the next command.
        """
        host = run.start()
        path = author.writes("asks", 'network = [443]\nservices = ["math"]')

        loaded = command(run, "load", path)
        assert loaded.returncode == 1
        assert "asks: blocked: asks for network 443; " in loaded.stderr
        assert "spiral-host permissions asks shows it" in loaded.stderr
        assert "spiral-host grant asks allows it" in loaded.stderr
        blocked = host.get("asks")
        assert (blocked.incarnation, blocked.pid) == (0, None)

        shown = command(run, "permissions", "asks")
        assert "  not granted   network 443" in shown.stdout.splitlines()

        granted = command(run, "grant", "asks")
        assert granted.stdout.splitlines() == [
            "asks 1.0.0: granting network 443, services math",
            "asks: granted; in force: network 443, services math",
        ]
        assert granted.returncode == 0
        assert host.get_service("asks").add(1, 2) == 3

        found = json.loads(command(run, "permissions", "asks", "--json").stdout)
        assert (found["state"], found["lacking"]) == ("ready", {})
        assert found["in_force"] == {"network": [443], "services": ["math"]}
        assert [line["permissions"] for line in audited(run, "blocked")] == [["network 443"]]
        (line,) = audited(run, "granted")
        assert (line["plugin_id"], line["version"]) == ("asks", "1.0.0")

    def test_one_that_asks_for_nothing_of_its_own_just_runs(
        self, run: Run, author: Author, tmp_path: Path
    ) -> None:
        """
        With a manifest that says nothing, without a manifest, or a class of the application's.
        """
        single = tmp_path / "single.py"
        single.write_text(
            "from plugin_worker import Plugin, PluginMetadata\n"
            "class Single(Plugin):\n"
            "    def metadata(self): return PluginMetadata('single', '1.0.0')\n"
        )
        (tmp_path / "known.py").write_text(
            single.read_text().replace("single", "known").replace("Single", "Known")
        )
        host = run.embed()
        loader = StaticPluginLoader(["known:Known"], root=tmp_path)
        results = host.load([author.writes("plain"), single, loader])
        assert [result.state for result in results] == ["ready"] * 3
        for found in host.list_permissions():
            assert (found.declares, found.in_force) == (False, EVERYONE)
        with pytest.raises(UsageError, match="plain asks for nothing of its own"):
            host.grant("plain")

    def test_whoever_needs_it_waits_for_it(self, run: Run, author: Author) -> None:
        """
        As for any plugin that is not ready; others do not notice.
        """
        host = run.embed()
        host.load([author.writes("plain")])
        host.load([author.writes("asks", "network = [8443]"), author.writes("user", needs="asks")])
        assert {info.id: info.state for info in host.list_plugins()} == {
            "plain": "ready",
            "asks": "blocked",
            "user": "blocked",
        }
        host.grant("asks")
        eventually(lambda: state(host, "user") == "ready")

    def test_a_part_may_be_granted_and_no_more_than_is_asked(
        self, run: Run, author: Author
    ) -> None:
        host = run.start()
        host.load(author.writes("asks", "network = [80, 443, 8443]"))
        wider = command(run, "grant", "asks", "network=8080")
        assert wider.returncode == 1
        assert "asks does not ask for network 8080" in wider.stderr
        assert state(host, "asks") == "blocked"

        assert command(run, "grant", "asks", "network=443").returncode == 0
        assert host.permissions("asks").in_force == Permissions(network=(443,))

        assert command(run, "grant", "asks").returncode == 0
        whole = Permissions(network=(80, 443, 8443))
        assert host.permissions("asks").in_force == whole
        assert state(host, "asks") == "ready"

    def test_what_is_in_force_is_what_its_process_may_do(
        self, run: Run, author: Author, tmp_path: Path
    ) -> None:
        """
        Of two files that it asks for it can open the one that was granted, by the link, too.
        """
        one, two, link = tmp_path / "one.txt", tmp_path / "two.txt", tmp_path / "link.txt"
        one.write_text("one")
        two.write_text("two")
        link.symlink_to(one)
        host = run.embed()
        host.load(author.writes("asks", f'read = ["{link}", "{two}"]'))
        assert host.grant("asks", {"read": [str(one)]}).state == "ready"

        service = host.get_service("asks")
        assert service.read(str(one)) == service.read(str(link)) == "one"
        with pytest.raises(PermissionError):
            service.read(str(two))
        host.grant("asks")
        assert service.read(str(two)) == "two"


class TestChange:
    def test_a_new_version_that_asks_for_more_stops_and_shows_the_difference(
        self, run: Run, author: Author
    ) -> None:
        host = run.start()
        host.load(author.writes("asks", "network = [443]"))
        host.grant("asks")
        author.writes("asks", "network = [443, 8443]", version="2.0.0")

        again = command(run, "restart", "asks")
        assert again.returncode == 1
        assert "asks for more than was granted to version 1.0.0: network 8443; " in again.stderr
        assert state(host, "asks") == "blocked"
        assert audited(run, "blocked", 2)[-1]["permissions"] == ["network 8443"]

        assert host.grant("asks").state == "ready"
        assert host.get("asks").version == "2.0.0"

    def test_one_that_asks_for_no_more_goes_on(self, run: Run, author: Author) -> None:
        """
        And the operator can read that it was another one.
        """
        host = run.start()
        host.load(author.writes("asks", "network = [80, 443]"))
        host.grant("asks")
        author.writes("asks", "network = [443]", version="2.0.0")
        assert host.restart("asks").ok
        assert host.permissions("asks").in_force == Permissions(network=(443,))
        (line,) = audited(run, "changed")
        assert line["version"] == "2.0.0"

    def test_less_was_granted_to_one_manifest_only(self, run: Run, author: Author) -> None:
        """
        Whoever changes it has to be looked at again, even if it asks for no more than before.
        """
        host = run.embed()
        host.load(author.writes("asks", "network = [443, 8443]"))
        assert host.grant("asks", {"network": [8443]}).state == "ready"
        assert host.restart("asks").ok
        author.writes("asks", "network = [443, 8443]", version="1.0.1")
        assert host.restart("asks").state == "blocked"
        assert host.permissions("asks").lacking == Permissions(network=(443,))

    def test_one_that_is_mended_while_in_quarantine_is_asked_about_too(
        self, run: Run, author: Author
    ) -> None:
        """
        Its new files are noticed; what they ask for more is not in force for that.
        """
        host = run.embed()
        host.load(author.writes("asks", "network = [8443]", broken=True))
        assert host.grant("asks").state == "quarantined"
        author.writes("asks", "network = [443, 8443]", version="2.0.0")
        eventually(lambda: state(host, "asks") == "blocked")
        assert host.permissions("asks").lacking == Permissions(network=(443,))


class TestRevoke:
    def test_what_runs_is_stopped_and_blocked(self, run: Run, author: Author) -> None:
        host = run.start()
        host.load([author.writes("asks", "network = [8443]"), author.writes("plain")])
        host.grant("asks")
        pid = host.get("plain").pid

        said = command(run, "revoke", "asks")
        assert (said.returncode, said.stdout) == (0, "asks: revoked; it is blocked\n")
        found = host.permissions("asks")
        assert (found.state, found.in_force) == ("blocked", NOTHING)
        assert found.reason.startswith("asks for network 8443; ")
        assert host.get("asks").pid is None
        assert host.get("plain").pid == pid
        assert not host.report("asks")

        again = command(run, "revoke", "asks")
        assert again.returncode == 1
        assert "asks was granted nothing" in again.stderr
        assert [line["permissions"] for line in audited(run, "revoked")] == [["network 8443"]]


class TestDaemons:
    def test_another_daemon_takes_over_what_was_granted(self, run: Run, author: Author) -> None:
        """
        It goes on in its process; and what starts anew starts with the same.
        """
        host = run.start()
        host.load(author.writes("asks", "network = [8443]"))
        host.grant("asks")
        pid = host.get("asks").pid
        run.kill_daemon()
        run.start_daemon()
        host = run.connect()
        assert (host.get("asks").pid, state(host, "asks")) == (pid, "ready")
        assert host.permissions("asks").in_force == Permissions(network=(8443,))
        assert host.restart("asks").ok

    def test_what_was_taken_away_while_there_was_none_leaves(
        self, run: Run, author: Author
    ) -> None:
        host = run.start()
        host.load(author.writes("asks", "network = [8443]"))
        host.grant("asks")
        run.kill_daemon()
        (run.config_dir / GRANTS).unlink()
        run.start_daemon()
        host = run.connect()
        eventually(lambda: state(host, "asks") == "blocked")
        assert host.get("asks").pid is None

    @pytest.mark.parametrize("is_ordered", [False, True], ids=["by hand", "and by order"])
    def test_what_was_narrowed_while_there_was_none_is_in_force(
        self, run: Run, author: Author, tmp_path: Path, *, is_ordered: bool
    ) -> None:
        """
        In its process, too: it starts anew with what it has now, and others do not notice.
        """
        one, two = tmp_path / "one.txt", tmp_path / "two.txt"
        one.write_text("one")
        two.write_text("two")
        host = run.start()
        asks = author.writes("asks", f'read = ["{one}", "{two}"]\nservices = ["math"]')
        host.load([asks, author.writes("plain")])
        host.grant("asks")
        before, plain = host.get("asks").pid, host.get("plain").pid
        run.kill_daemon()
        file = run.config_dir / GRANTS
        file.write_text(file.read_text().replace(f'"{one}", ', ""))
        run.start_daemon()
        host = run.connect()
        if is_ordered:
            host.grant("asks", {"read": [str(two)], "services": ["math"]})

        less = Permissions(read=(str(two),), services=("math",))
        eventually(lambda: state(host, "asks") == "ready" and host.get("asks").pid != before)
        assert host.permissions("asks").in_force == less
        assert host.get_service("asks").read(str(two)) == "two"
        with pytest.raises(PermissionError):
            host.get_service("asks").read(str(one))
        assert host.get("plain").pid == plain

    def test_a_grant_outlives_the_run_and_so_does_the_audit_log(
        self, run: Run, author: Author
    ) -> None:
        host = run.start()
        path = author.writes("asks", "network = [8443]")
        host.load(path)
        host.grant("asks")
        host.shutdown()
        run.daemon.wait(DEADLINE)
        assert [line["plugin_id"] for line in audited(run, "granted")] == ["asks"]

        run.start_daemon()
        (result,) = run.connect().load(path)
        assert result.ok


class TestFile:
    def test_by_hand_it_can_be_narrowed_and_not_widened(self, run: Run, author: Author) -> None:
        """
        Read again when the plugin starts; what it does not ask for it does not get.
        """
        host = run.start()
        host.load(author.writes("asks", "network = [80, 443]"))
        host.grant("asks")
        path = run.config_dir / GRANTS
        text = path.read_text()

        path.write_text(text.replace("[80, 443]", "[443, 8080]") + "gpu = true\n")
        assert host.permissions("asks").in_force == Permissions(network=(80, 443))
        assert host.restart("asks").ok
        assert host.permissions("asks").in_force == Permissions(network=(443,))

        path.write_text(text.replace("sha256:", "sha256:0").replace("[80, 443]", "[443]"))
        assert "asks for more than was granted" in host.restart("asks").reason

    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda path: path.write_text("[asks"), "is no TOML"),
            (lambda path: path.chmod(0o666), "chmod go-w"),
            (
                lambda path: path.write_text(path.read_text().replace("network", "root")),
                "unknown permission 'root'",
            ),
        ],
        ids=["broken", "open", "unknown"],
    )
    def test_from_one_that_is_not_to_be_trusted_nothing_is_granted(
        self, run: Run, author: Author, spoil: Callable[[Path], object], why: str
    ) -> None:
        """
        The daemon starts all the same and names the cure; others run.
        """
        host = run.start()
        path = author.writes("asks", "network = [8443]")
        host.load(path)
        host.grant("asks")
        host.shutdown()
        run.daemon.wait(DEADLINE)
        file = run.config_dir / GRANTS
        whole = file.read_text()
        spoil(file)

        run.start_daemon()
        host = run.connect()
        asks, plain = host.load([path, author.writes("plain")])
        assert (asks.state, plain.state) == ("blocked", "ready")
        (alarm,) = alarms_of(host, file)
        assert why in alarm
        with pytest.raises(UsageError, match="nothing is granted from it"):
            host.grant("asks")

        file.write_text(whole)
        file.chmod(0o600)
        assert host.restart("asks").ok
        assert alarms_of(host, file) == []


class TestPaths:
    def test_a_link_that_is_turned_round_is_asked_about_again(
        self, run: Run, author: Author, tmp_path: Path
    ) -> None:
        """
        What was granted is where it led.
        """
        one, two, link = tmp_path / "one", tmp_path / "two", tmp_path / "link"
        for folder in (one, two):
            folder.mkdir()
        link.symlink_to(one)
        host = run.embed()
        host.load(author.writes("asks", f'read = ["{link}"]'))
        assert host.permissions("asks").leads == {str(link): str(one)}
        assert host.grant("asks").in_force == Permissions(read=(str(one),))

        link.unlink()
        link.symlink_to(two)
        result = host.restart("asks")
        assert result.state == "blocked"
        assert f"more than was granted to version 1.0.0: read {two}; " in result.reason

        link.unlink()
        link.symlink_to(one)
        assert host.restart("asks").ok

    def test_only_what_was_shown_is_granted(self, run: Run, author: Author, tmp_path: Path) -> None:
        """
        A link that another plugin turns round between the two is no way to more.
        """
        one, secret, link = tmp_path / "one", tmp_path / "secret", tmp_path / "link"
        for folder in (one, secret):
            folder.mkdir()
        link.symlink_to(one)
        host = run.embed()
        host.load(author.writes("asks", f'read = ["{link}"]'))
        shown = host.permissions("asks")
        link.unlink()
        link.symlink_to(secret)
        with pytest.raises(UsageError, match="asks has changed since it was shown; look again"):
            host.grant("asks", digest=shown.digest)
        assert state(host, "asks") == "blocked"

        link.unlink()
        link.symlink_to(one)
        assert host.grant("asks", digest=shown.digest).in_force == Permissions(read=(str(one),))

    def test_a_page_that_was_read_in_peace_is_granted_or_nothing(
        self, run: Run, author: Author, tmp_path: Path
    ) -> None:
        """
        `permissions` ends with the command that grants what it shows, to be typed much later.
        """
        one, secret, link = tmp_path / "one", tmp_path / "secret", tmp_path / "link"
        for folder in (one, secret):
            folder.mkdir()
        link.symlink_to(one)
        host = run.start()
        host.load(author.writes("asks", f'read = ["{link}"]'))
        line = command(run, "permissions", "asks").stdout.splitlines()[-1]
        typed = line.partition("spiral-host ")[2].split()
        assert typed[:3] == ["grant", "asks", "--digest"]

        link.unlink()
        link.symlink_to(secret)
        refused = command(run, *typed)
        assert refused.returncode == 1
        assert "asks has changed since it was shown; look again" in refused.stderr
        assert refused.stdout == ""
        assert state(host, "asks") == "blocked"

        link.unlink()
        link.symlink_to(one)
        assert command(run, *typed).returncode == 0
        assert host.permissions("asks").in_force == Permissions(read=(str(one),))

    @pytest.mark.parametrize("name", ["nowhere", "link", "config", "run", "..", "/", "/proc/1"])
    def test_what_no_plugin_gets(self, run: Run, author: Author, tmp_path: Path, name: str) -> None:
        """
        What is not there, and the host's own folders, and those over them, and the machine's.
        """
        host = run.start()
        paths = {
            "nowhere": tmp_path / "nowhere",
            "link": tmp_path / "link",
            "config": run.config_dir,
            "run": run.run_dir,
            "..": run.run_dir.parent,
        }
        (tmp_path / "link").symlink_to(run.run_dir / "logs")
        run.config_dir.mkdir(exist_ok=True)
        (result,) = host.load(author.writes("asks", f'write = ["{paths.get(name, name)}"]'))
        assert result.state == "blocked"
        assert "asks for what no plugin gets: write " in result.reason
        with pytest.raises(UsageError, match="no plugin gets"):
            host.grant("asks")
        assert not (run.config_dir / GRANTS).exists()

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            ('read = ["/srv/../etc"]', "has a '..'"),
            ('read = ["images"]', "is no path"),
            ("camera = true", "unknown permission 'camera'"),
            ("network = [0]", "is no TCP port"),
            ("gpu = 1", "is neither true nor false"),
        ],
    )
    def test_words_that_cannot_be_meant_are_refused_with_the_manifest(
        self, run: Run, author: Author, words: str, why: str
    ) -> None:
        (result,) = run.embed().load(author.writes("asks", words))
        assert result.state == "refused"
        assert "permissions: " in result.reason
        assert why in result.reason


def test_a_plugin_has_no_words_to_grant_anything() -> None:
    """
    What a client says is no message when a worker says it.
    """
    for message in (GrantPermissions("r", "p"), RevokePermissions("r", "p")):
        frame = FROM_CLIENT.encode(message)
        with pytest.raises(RemoteProtocolError):
            FROM_WORKER.decode(frame)
