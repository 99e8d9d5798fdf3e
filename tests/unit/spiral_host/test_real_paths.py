import os
import threading
from pathlib import Path
from threading import Event

import pytest

from plugin_worker.sandbox.policy import SYSTEM_READ
from protocol.errors import UsageError
from protocol.messages import PluginSource
from protocol.permissions import Permissions
from spiral_host import daemon, real_paths
from spiral_host.config import DaemonConfig
from spiral_host.real_paths import OPEN, Followed, Grounds
from tests.hosts import DEADLINE, eventually


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A machine's disk, with a host on it."""
    for name in ("images/small", "host/run", "host/data/me", "host/data/other", "host/config"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path.resolve()


@pytest.fixture
def grounds(base: Path) -> Grounds:
    host = base / "host"
    return Grounds.of(
        DaemonConfig(run_dir=host / "run", data_dir=host / "data", config_dir=host / "config")
    )


def read(*paths: Path | str) -> Permissions:
    return Permissions(read=tuple(map(str, paths)))


class TestFollow:
    def test_a_plain_folder_is_itself(self, base: Path, grounds: Grounds) -> None:
        found = grounds.follow(read(base / "images"), "me")
        assert (found.permissions, found.refused, found.leads) == (read(base / "images"), (), {})

    def test_a_link_is_followed_and_shown(self, base: Path, grounds: Grounds) -> None:
        """
        What is compared is where it leads, now.
        """
        link = base / "link"
        link.symlink_to(base / "images")
        found = grounds.follow(Permissions(write=(str(link),)), "me")
        assert found.permissions == Permissions(write=(str(base / "images"),))
        assert found.leads == {str(link): str(base / "images")}

    def test_home_is_ours(
        self, base: Path, grounds: Grounds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(base))
        assert grounds.follow(read("~/images")).permissions == read(base / "images")

    def test_a_home_that_is_no_folder_is_nobodys(
        self, grounds: Grounds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        It must not become a path of the folder that the daemon happens to stand in.
        """
        monkeypatch.setenv("HOME", "images")
        assert grounds.follow(read("~/images")).refused == (
            "read ~/images: nobody knows our home folder",
        )

    def test_two_that_lead_to_one_place_are_one(self, base: Path, grounds: Grounds) -> None:
        """
        And what lies in another goes without saying.
        """
        (base / "link").symlink_to(base / "images")
        found = grounds.follow(read(base / "images/small", base / "images", base / "link"))
        assert found.permissions == read(base / "images")

    def test_what_is_no_path_stays_as_it_is(self, grounds: Grounds) -> None:
        web = Permissions(network=(443,), gpu=True, services=("math",))
        assert grounds.follow(web, "me").permissions == web


class TestRefusing:
    @pytest.mark.parametrize(
        ("path", "why"),
        [
            ("/", "it is everything"),
            ("/proc", "it is the machine's own"),
            ("/proc/1", "it is the machine's own"),
            ("/proc/self/fd", "it is the machine's own"),
            ("/sys/kernel", "it is the machine's own"),
            ("/dev/null", "it is the machine's own"),
            ("/dev", "it is the machine's own"),
        ],
    )
    def test_the_machines_own(self, grounds: Grounds, path: str, why: str) -> None:
        """
        No plugin gets it, asked for by name or by a link.
        """
        found = grounds.follow(read(path), "me")
        assert found.permissions == Permissions()
        assert found.refused == (f"read {path}: {why}",)

    @pytest.mark.parametrize(
        "name",
        ["host/run", "host/data", "host/config", "host/data/other", "host/run/logs"],
    )
    def test_in_the_hosts_own_folders(self, base: Path, grounds: Grounds, name: str) -> None:
        (base / name).mkdir(exist_ok=True)
        (refused,) = grounds.follow(read(base / name), "me").refused
        assert "lies in a folder of the host's own" in refused

    def test_over_the_hosts_own_folders(self, base: Path, grounds: Grounds) -> None:
        (refused,) = grounds.follow(read(base), "me").refused
        assert "a folder of the host's own lies in it" in refused

    def test_its_own_data_folder_is_no_secret_to_it(self, base: Path, grounds: Grounds) -> None:
        mine = read(base / "host/data/me")
        assert grounds.follow(mine, "me").permissions == mine
        assert grounds.follow(mine, "other").refused
        assert grounds.follow(mine).refused

    def test_a_link_does_not_hide_them(self, base: Path, grounds: Grounds) -> None:
        (base / "link").symlink_to(base / "host/config")
        assert grounds.follow(read(base / "link"), "me").refused

    def test_nor_does_a_link_that_is_the_operators(self, base: Path, grounds: Grounds) -> None:
        """
        Whoever may write to a folder on the way decides for every plugin.
        """
        for name in ("one", "two", "else"):
            (base / name).mkdir()
        (base / "two/mine.toml").touch()
        (base / "one/link").symlink_to("../two/mine.toml")
        (base / "host/config/spiral.toml").symlink_to(base / "one/link")
        for name in ("one", "two", "two/mine.toml"):
            found = grounds.follow(Permissions(write=(str(base / name),)), "me")
            assert found.permissions == Permissions()
        assert not grounds.follow(read(base / "else"), "me").refused

    def test_nor_does_a_link_of_the_hosts(self, base: Path) -> None:
        """
        A run directory that is reached by a link is the folder that it leads to.
        """
        (base / "short").symlink_to(base / "host/run")
        grounds = Grounds(base / "host/data", (base / "short",))
        assert grounds.follow(read(base / "host/run")).refused

    def test_one_whose_name_only_begins_alike_is_another(
        self, base: Path, grounds: Grounds
    ) -> None:
        (base / "host/running").mkdir()
        assert not grounds.follow(read(base / "host/running")).refused

    def test_what_is_not_there(self, base: Path, grounds: Grounds) -> None:
        """
        Nobody knows what it will be when somebody makes it.
        """
        (base / "dangling").symlink_to(base / "nowhere")
        for name in ("nowhere", "dangling"):
            found = grounds.follow(read(base / name))
            assert found.refused == (f"read {base / name}: it does not exist",)

    def test_a_link_to_itself_and_what_is_behind_a_file(self, base: Path, grounds: Grounds) -> None:
        (base / "loop").symlink_to(base / "loop")
        (base / "file").touch()
        assert len(grounds.follow(read(base / "loop", base / "file/x")).refused) == 2

    def test_what_cannot_be_shown(self, base: Path, grounds: Grounds) -> None:
        """
        Nobody can consent to a name that he cannot read.
        """
        (base / "new\nline").mkdir()
        (base / "link").symlink_to(base / "new\nline")
        (refused,) = grounds.follow(read(base / "link")).refused
        assert refused.endswith("which cannot be shown")
        assert "\n" not in refused


class TestOwnFolders:
    @pytest.mark.parametrize("word", ["run_dir", "data_dir", "config_dir"])
    def test_where_every_plugin_may_read(self, base: Path, word: str) -> None:
        """
        No daemon starts there, by whatever link.
        """
        link = base / "link"
        link.symlink_to("/usr")
        told = {name: base / name for name in ("run_dir", "data_dir", "config_dir")}
        Grounds.of(DaemonConfig(**told)).check()  # type: ignore[arg-type]
        told[word] = link / "spiral"
        with pytest.raises(UsageError, match=r"every plugin may read what lies in /usr"):
            Grounds.of(DaemonConfig(**told)).check()  # type: ignore[arg-type]

    def test_a_daemon_says_so_and_ends(
        self, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """
        Before it makes anything.
        """
        monkeypatch.setattr(daemon, "raise_descriptor_limit", lambda: None)
        told = DaemonConfig(run_dir=base / "new", config_dir=Path("/usr/spiral-host-settings"))
        assert daemon.run(told) == 2
        said = "/usr/spiral-host-settings cannot be a folder of the host's"
        assert said in capsys.readouterr().err
        assert not (base / "new").exists()

    def test_no_folder_that_every_plugin_may_read_is_forgotten(self) -> None:
        """
        The policy's own list.
        """
        for path in SYSTEM_READ:
            if Path(path).is_dir() and not path.startswith("/etc/"):
                assert any(Path(path).is_relative_to(folder) for folder in OPEN), path

    @pytest.mark.parametrize("name", ["host/data/me", "host/run/plugins", "host", "host/config"])
    def test_code_is_no_way_in(self, base: Path, grounds: Grounds, name: str) -> None:
        """
        A plugin may read the folder of its code.
        """
        source = PluginSource(root=str(base / name), entry="a:A")
        assert grounds.objection(source).startswith(f"code {base / name}: ")

    def test_code_beside_the_hosts_folders(self, base: Path, grounds: Grounds) -> None:
        """
        Of one that is a single file only that file can be read.
        """
        for root, entry in (("host/plugins", "a:A"), ("host", "a.py")):
            assert not grounds.objection(PluginSource(root=str(base / root), entry=entry))
        assert not grounds.objection(PluginSource(root="", entry="a:A"))


class TestHostile:
    def test_a_chain_of_links_is_refused(self, base: Path, grounds: Grounds) -> None:
        """
        The kernel follows 40; whoever makes more gets nothing, and ends nobody.
        """
        for number in range(1500):
            (base / f"l{number}").symlink_to(base / f"l{number + 1}")
        (base / "l1500").touch()
        (refused,) = grounds.follow(read(base / "l0"), "me").refused
        assert "Too many levels of symbolic links" in refused
        assert not grounds.follow(read(base / "l1490"), "me").refused

    def test_whatever_goes_wrong_is_a_refusal(
        self, base: Path, grounds: Grounds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def wrong(_: str) -> str:
            raise RecursionError

        monkeypatch.setattr(real_paths, "_asked_of_kernel", wrong)
        found = grounds.follow(read(base / "images"), "me")
        assert found.permissions == Permissions()
        assert found.refused == (f"read {base / 'images'}: it cannot be followed: RecursionError",)

    def test_what_was_removed_meanwhile_does_not_exist(
        self, base: Path, grounds: Grounds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The kernel names it with a word behind: that is no path.
        """
        real = os.open

        def late(path: str, flags: int) -> int:
            fd = real(path, flags)
            (base / "images/small").rmdir()
            return fd

        monkeypatch.setattr(os, "open", late)
        (refused,) = grounds.follow(read(base / "images/small"), "me").refused
        assert refused.endswith(": it does not exist")

    def test_too_many_characters_are_refused(
        self, base: Path, grounds: Grounds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        As they are written, and as they lead.
        """
        long = read(*(f"/{number}/{'x' * 4000}" for number in range(20)))
        found = grounds.follow(long, "me")
        assert (found.permissions, len(found.refused)) == (Permissions(), 20)
        assert "more than 65536 characters" in found.refused[0]

        short = base / "s"
        short.symlink_to(base / "images/small")
        monkeypatch.setattr(real_paths, "MAX_PATHS", len(str(short)))
        assert grounds.follow(read(short), "me").permissions == Permissions()


@pytest.mark.usefixtures("impatient")
class TestDisks:
    def test_one_that_does_not_answer_stops_nobody(
        self, base: Path, grounds: Grounds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Nothing is known of its paths until it answers, and nobody else waits for that.
        """
        reached, let, real = Event(), Event(), real_paths._asked_of_kernel

        def slow(path: str) -> str:
            if path.endswith("/small"):
                reached.set()
                assert let.wait(2 * DEADLINE)  # longer than anybody waits for what is not held
            return real(path)

        monkeypatch.setattr(real_paths, "_asked_of_kernel", slow)
        slowly = read(base / "images/small")
        found = grounds.follow(slowly, "me")
        assert reached.wait(DEADLINE)
        assert found.refused == ()
        assert found.unknown == (f"read {base / 'images/small'}: its disk does not answer",)

        begun = set(threading.enumerate())  # some may be about to end
        assert grounds.follow(slowly, "me").unknown
        assert set(threading.enumerate()) <= begun
        images = read(base / "images")
        assert eventually(lambda: grounds.follow(images, "other") == Followed(images))

        let.set()
        assert eventually(lambda: not grounds.follow(slowly, "me").unknown)
