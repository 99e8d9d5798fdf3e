from dataclasses import replace

import pytest

from plugin_worker.sandbox.bwrap import (
    LINKS,
    arguments,
    complaint,
    cure,
    ended,
    in_namespaces,
    version_of,
)
from plugin_worker.sandbox.confinement import Confinement
from plugin_worker.sandbox.policy import CURES, RLIMITS, STANDARD, SYSTEM_READ

LINKED = {"/lib": "usr/lib"}
OWN = Confinement(
    read=("/home/a/plugin", "/usr/lib/python3"),
    write=("/home/a/plugin/data",),
    tmp="/run/host/tmp/1",
    node_pid=7,
    layers=("namespaces", *STANDARD),
)

Words = tuple[str, ...]


def said(confinement: Confinement = OWN) -> Words:
    return arguments(confinement, LINKED)


def place(words: Words, *wanted: str) -> int:
    """Give where these words stand, one after the other; -1 if nowhere."""
    places = range(len(words) - len(wanted) + 1)
    return next((at for at in places if words[at : at + len(wanted)] == wanted), -1)


class TestArguments:
    @pytest.mark.parametrize(
        "word",
        [
            *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
            *("--unshare-cgroup-try", "--unshare-net", "--disable-userns", "--die-with-parent"),
        ],
    )
    def test_every_namespace_is_asked_for_and_no_way_to_make_others(self, word: str) -> None:
        """A worker shares none of them with the host, and ends with it."""
        assert word in said()

    def test_it_is_nobody_and_may_nothing(self) -> None:
        """Neither a user of the machine's nor a capability, not even over its own namespaces."""
        assert place(said(), "--cap-drop", "ALL") >= 0
        assert place(said(), "--uid", "1000", "--gid", "1000") >= 0

    def test_bubblewrap_keeps_its_own_init(self) -> None:
        """As process 1 a worker would take no signal, and what it leaves would never be reaped."""
        assert "--as-pid-1" not in said()

    def test_the_machines_network_stays_only_where_a_port_was_granted(self) -> None:
        """Which port is for other layers to say."""
        assert "--unshare-net" in said()
        assert "--unshare-net" not in said(replace(OWN, ports=(443,)))

    def test_what_it_may_read_is_bound_read_only_and_what_it_may_write_above_it(self) -> None:
        """A data folder inside the plugin's own folder is still writable."""
        words = said()
        code = place(words, "--ro-bind-try", "/home/a/plugin", "/home/a/plugin")
        data = place(words, "--bind", "/home/a/plugin/data", "/home/a/plugin/data")
        assert 0 <= code < data

    def test_nothing_but_its_own_is_writable(self) -> None:
        """What it may read never becomes writable by being bound."""
        words = said()
        assert [words[at + 1] for at, word in enumerate(words) if word == "--bind"] == [
            "/home/a/plugin/data"
        ]

    def test_what_is_there_anyway_is_not_bound_again(self) -> None:
        """A folder below one that is bound would otherwise lose what is mounted there."""
        assert "/usr/lib/python3" not in said()
        below = replace(OWN, read=("/home/a/plugin", "/home/a/plugin/data/kept"))
        assert "/home/a/plugin/data/kept" not in said(below)

    def test_what_was_granted_is_bound_as_it_was_granted(self) -> None:
        """Paths to read, to write, and the device files of an accelerator."""
        words = said(
            replace(OWN, granted_read=("/srv/a",), granted_write=("/srv/b",), devices=("/dev/kfd",))
        )
        assert place(words, "--ro-bind-try", "/srv/a", "/srv/a") >= 0
        assert place(words, "--bind", "/srv/b", "/srv/b") >= 0
        assert place(words, "--dev-bind", "/dev/kfd", "/dev/kfd") > place(words, "--dev", "/dev")

    def test_programs_are_there_for_who_may_start_them(self) -> None:
        """Others find no folder of programs but what is in /usr."""
        assert place(said(), "--ro-bind-try", "/sbin", "/sbin") == -1
        words = said(replace(OWN, subprocess=True))
        assert place(words, "--ro-bind-try", "/sbin", "/sbin") >= 0

    def test_what_only_looks_like_a_folder_below_is_bound(self) -> None:
        """`/usr2` is not in `/usr`."""
        words = said(replace(OWN, read=("/usr2",)))
        assert place(words, "--ro-bind-try", "/usr2", "/usr2") >= 0

    def test_the_systems_folders_that_are_links_are_links_again(self) -> None:
        """Elsewhere they are folders, and are bound."""
        assert place(said(), "--symlink", "usr/lib", "/lib") >= 0
        assert place(arguments(OWN, {}), "--ro-bind-try", "/lib", "/lib") >= 0

    def test_the_links_that_libraries_are_found_by_are_there(self) -> None:
        """Under the other profiles they can be followed; libblas is found through one."""
        for path in LINKS:
            assert place(said(), "--ro-bind-try", path, path) >= 0

    def test_proc_and_dev_are_its_own(self) -> None:
        """Of the host's nothing is bound there, though other profiles grant single files."""
        words = said()
        assert place(words, "--proc", "/proc") >= 0
        assert place(words, "--dev", "/dev") >= 0
        assert any(path.startswith("/proc/") for path in SYSTEM_READ)
        assert not [word for word in words if word.startswith("/proc/")]

    def test_what_is_in_memory_has_a_size(self) -> None:
        """A file there is memory that no other limit counts."""
        words = said()
        at = place(words, "--tmpfs", OWN.tmp)
        assert words[at - 2] == "--size"
        assert int(words[at - 1]) > 0
        assert words.count("--tmpfs") == 1

    def test_what_bubblewrap_mounts_itself_cannot_be_written(self) -> None:
        """Its own memory file systems have no size; they are closed once all is mounted."""
        assert said()[-4:] == ("--remount-ro", "/dev", "--remount-ro", "/")

    def test_folders_come_before_what_is_in_them(self) -> None:
        """A private folder in /tmp, or a grant of the whole machine, hides nothing mounted."""
        words = said(replace(OWN, read=("/",), tmp="/tmp/1"))
        everything = place(words, "--ro-bind-try", "/", "/")
        assert 0 <= everything < place(words, "--proc", "/proc")
        assert everything < place(words, "--tmpfs", "/tmp/1")
        assert "/usr" not in words


class TestInNamespaces:
    def test_what_changes_is_the_parent_and_a_number_of_processes(self) -> None:
        """Everything else is what `standard` is."""
        inside = in_namespaces(OWN, 64)
        assert inside.node_pid == 1
        assert inside.limits == {**RLIMITS, "NPROC": 66}
        same = replace(inside, node_pid=7, limits=OWN.limits)
        assert same == OWN

    def test_a_number_of_processes_is_no_limit_elsewhere(self) -> None:
        """There it would count all processes of the user."""
        with pytest.raises(ValueError, match="no limit: NPROC"):
            replace(in_namespaces(OWN, 64), layers=STANDARD)


class TestAnswers:
    @pytest.mark.parametrize(
        ("code", "how"),
        [
            (0, ("exit", 0)),
            (3, ("exit", 3)),
            (128, ("exit", 128)),
            (134, ("signal", 6)),
            (137, ("signal", 9)),
            (139, ("signal", 11)),
            (192, ("signal", 64)),
            (193, ("exit", 193)),
            (255, ("exit", 255)),
        ],
    )
    def test_an_exit_of_bubblewraps_says_how_the_worker_ended(
        self, code: int, how: tuple[str, int]
    ) -> None:
        """A signal is 128 and its number, as in a shell."""
        assert ended(code) == how

    @pytest.mark.parametrize(
        ("words", "wanted"),
        [
            ("bwrap: setting up uid map: Permission denied", "AppArmor"),
            ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "AppArmor"),
            (
                "bwrap: No permissions to create new namespace, likely because the kernel does",
                "unprivileged_userns_clone",
            ),
            (
                "bwrap: Creating new namespace failed: Operation not permitted",
                "unprivileged_userns_clone",
            ),
            ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "mount /proc"),
            ("bwrap is not on the PATH", "install bubblewrap >= 0.8"),
            ("bwrap: Unknown option --disable-userns", "install bubblewrap >= 0.8"),
        ],
    )
    def test_what_bubblewrap_says_has_a_cure(self, words: str, wanted: str) -> None:
        """It is the words' own, where they are known."""
        assert wanted in cure(words)
        assert (cure(words) == CURES["namespaces"]) == wanted.startswith("install")

    @pytest.mark.parametrize(
        ("text", "version"),
        [("bubblewrap 0.8.0", (0, 8, 0)), ("bubblewrap 0.11", (0, 11, 0)), ("no such file", ())],
    )
    def test_its_version_is_read(self, text: str, version: tuple[int, ...]) -> None:
        """Numbers, so that 0.11 is newer than 0.8."""
        assert version_of(text) == version

    def test_its_last_words_are_kept_in_a_line(self) -> None:
        """Where it has said nothing its exit is all there is."""
        assert complaint("a\nb\n\n c\nd\n", 1) == "b; c; d"
        assert complaint(" \n", 1) == "bwrap ended with 1"
