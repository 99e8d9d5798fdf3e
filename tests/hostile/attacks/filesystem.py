"""Attacks on files: the user's, the host's, other plugins', and on those who read them."""

import fcntl
import os
import stat
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import Gauntlet, Nothing, Scene, attack, tried
else:
    import raw
    from gauntlet import Gauntlet, Nothing, Scene, attack, tried

__all__ = ["Gauntlet"]

CWD = -100
NEW_USER = 0x10000000


@attack("fs-read-private-key")
def read_key(scene: Scene) -> str:
    return tried(partial(raw.read, scene.key), partial(raw.read, scene.profile))


@attack("fs-read-accounts")
def read_accounts(scene: Scene) -> str:
    return tried(partial(raw.read, "/etc/passwd"), partial(raw.read, "/etc/hosts"))


@attack("fs-list-home")
def list_home(scene: Scene) -> str:
    return tried(*(partial(raw.list_folder, path) for path in (scene.home, "/", "/home", "/tmp")))


@attack("fs-stat-guessed-path")
def stat_guessed(scene: Scene) -> str:
    status = Path(scene.key).stat()
    return f"{status.st_size} bytes, written {status.st_mtime}"


@attack("fs-read-guessed-link")
def read_link(scene: Scene) -> str:
    return str(Path(scene.link).readlink())


@attack("fs-size-of-disk")
def size_of_disk(scene: Scene) -> str:
    return f"{os.statvfs(scene.home).f_blocks} blocks"


@attack("fs-rewrite-own-code")
def rewrite_own_code(scene: Scene) -> str:
    return tried(
        partial(raw.write, scene.bait, flags=os.O_APPEND),
        partial(raw.write, f"{Path(scene.bait).parent}/new.py"),
        partial(raw.call, "renameat2", CWD, scene.bait.encode(), CWD, b"mine", 0),
    )


@attack("fs-rewrite-libraries")
def rewrite_libraries(scene: Scene) -> str:
    return tried(
        partial(raw.write, f"{scene.site}/hostile.pth"),
        partial(raw.open_file, os.__file__, os.O_WRONLY),
        partial(raw.open_file, struct.__file__, os.O_RDWR),
    )


@attack("fs-write-into-run-dir")
def write_run_dir(scene: Scene) -> str:
    path = f"{scene.run_dir}/hostile"
    written = tried(partial(raw.write, path), partial(raw.open_file, scene.victim_log, os.O_APPEND))
    Path(path).unlink(missing_ok=True)
    return written


@attack("fs-read-run-dir")
def read_run_dir(scene: Scene) -> str:
    return tried(
        partial(raw.list_folder, scene.run_dir),
        partial(raw.read, scene.victim_log),
        partial(raw.read, f"{scene.run_dir}/state.db"),
    )


@attack("fs-other-plugins-data")
def other_data(scene: Scene) -> str:
    return tried(
        partial(raw.read, f"{scene.victim_data}/secret"),
        partial(raw.write, f"{scene.victim_data}/secret", flags=os.O_TRUNC),
        partial(raw.list_folder, scene.victim_data),
    )


@attack("fs-climb-out-of-own-data")
def climb_out(scene: Scene) -> str:
    own = raw.open_file(scene.data, os.O_DIRECTORY)
    victim = f"../{Path(scene.victim_data).name}/secret"
    return tried(
        partial(raw.read, f"{scene.data}/{victim}"),
        partial(raw.call, "openat", own, victim.encode(), 0, 0),
        partial(raw.call, "openat2", own, victim.encode(), struct.pack("QQQ", 0, 0, 0), 24),
        partial(raw.call, "openat2", own, scene.key.encode(), struct.pack("QQQ", 0, 0, 0), 24),
    )


@attack("fs-link-to-secret")
def link_to_secret(scene: Scene) -> str:
    for name, target in (("to-key", scene.key), ("to-home", scene.home)):
        Path(scene.data, name).unlink(missing_ok=True)
        raw.call("symlinkat", target.encode(), CWD, f"{scene.data}/{name}".encode())
    return tried(
        partial(raw.read, f"{scene.data}/to-key"),
        partial(raw.read, f"{scene.data}/to-home/.profile"),
        partial(raw.write, f"{scene.data}/to-home/.profile", flags=os.O_APPEND),
    )


@attack("fs-detour-by-proc")
def detour(scene: Scene) -> str:
    roots = ["self/root", "thread-self/root", "self/cwd/../../../../../../..", "1/root"]
    roots += [f"{pid}/root" for pid in (scene.bystander, *scene.hosts)]
    return tried(*(partial(raw.read, f"/proc/{root}{scene.key}") for root in roots))


@attack("fs-hard-link-to-secret")
def hard_link(scene: Scene) -> str:
    mine = f"{scene.data}/hard"
    Path(mine).unlink(missing_ok=True)

    def take() -> bytes:
        raw.call("linkat", CWD, scene.key.encode(), CWD, mine.encode(), 0)
        return raw.read(mine)

    return tried(take, partial(raw.call, "linkat", CWD, scene.bait.encode(), CWD, b"bait", 0))


@attack("fs-rename-across")
def rename_across(scene: Scene) -> str:
    own, theirs = f"{scene.data}/own".encode(), scene.profile.encode()
    raw.write(own.decode())
    exchange = 2
    return tried(
        partial(raw.call, "renameat2", CWD, own, CWD, theirs, exchange),
        partial(raw.call, "renameat2", CWD, own, CWD, theirs, 0),
        partial(raw.call, "renameat2", CWD, theirs, CWD, own, 0),
    )


@attack("fs-delete")
def delete(scene: Scene) -> str:
    return tried(
        partial(raw.call, "unlinkat", CWD, scene.profile.encode(), 0),
        partial(raw.call, "unlinkat", CWD, f"{scene.victim_data}/secret".encode(), 0),
        partial(raw.call, "mkdirat", CWD, f"{scene.home}/new".encode(), 0o700),
        partial(raw.call, "symlinkat", b"/", CWD, f"{scene.home}/new-link".encode()),
    )


@attack("fs-change-mode")
def change_mode(scene: Scene) -> str:
    path = scene.profile.encode()
    bait = raw.open_file(scene.bait)
    return tried(
        partial(raw.call, "chmod", path, 0o777),
        partial(raw.call, "fchmodat", CWD, path, 0o777),
        partial(raw.call, "fchmodat2", CWD, path, 0o777, 0),
        partial(raw.call, 452, CWD, path, 0o777, 0),
        partial(raw.call, "fchmod", bait, 0o777),
    )


@attack("fs-change-owner")
def change_owner(scene: Scene) -> str:
    path, uid, gid = scene.profile.encode(), os.getuid(), os.getgid()
    return tried(
        partial(raw.call, "chown", path, uid, gid),
        partial(raw.call, "lchown", path, uid, gid),
        partial(raw.call, "fchownat", CWD, path, uid, gid, 0),
        partial(raw.call, "fchown", raw.open_file(scene.bait), uid, gid),
    )


@attack("fs-change-times")
def change_times(scene: Scene) -> str:
    path = scene.profile.encode()
    return tried(
        partial(raw.call, "utimensat", CWD, path, struct.pack("qqqq", 0, 0, 0, 0), 0),
        partial(raw.call, "utime", path, struct.pack("qq", 0, 0)),
        partial(raw.call, "utimensat", raw.open_file(scene.bait), None, bytes(32), 0),
    )


@attack("fs-change-attributes")
def change_attributes(scene: Scene) -> str:
    path, name = scene.profile.encode(), b"user.hostile"
    described = struct.pack("QII", 0, 0, 0)
    return tried(
        partial(raw.call, "setxattr", path, name, b"x", 1, 0),
        partial(raw.call, "removexattr", path, name),
        partial(raw.call, "listxattr", path, bytes(256), 256),
        partial(raw.call, 463, CWD, path, 0, name, described, 16),
    )


@attack("fs-read-guessed-attributes")
def read_attributes(scene: Scene) -> str:
    """Extended ones, which programs keep addresses and notes in; their values may be as secret."""
    path, name = scene.profile.encode(), b"user.origin"
    return tried(
        partial(raw.call, "getxattr", path, name, bytes(64), 64),
        partial(raw.call, "lgetxattr", path, name, bytes(64), 64),
        partial(raw.call, "fgetxattr", 0, name, bytes(64), 64),
        partial(raw.call, 464, CWD, path, 0, name, struct.pack("QII", 0, 0, 0), 16),
    )


@attack("fs-cut-what-is-read-only")
def cut(scene: Scene) -> str:
    return tried(
        partial(raw.open_file, scene.bait, os.O_RDONLY | os.O_TRUNC),
        partial(raw.call, "truncate", scene.bait.encode(), 0),
        partial(raw.call, "ftruncate", raw.open_file(scene.bait), 0),
    )


@attack("fs-watch-home")
def watch_home(scene: Scene) -> str:
    def inotify() -> str:
        watch = raw.call("inotify_init1", 0)
        return f"watch {raw.call('inotify_add_watch', watch, scene.home.encode(), 0xFFF)}"

    return tried(inotify, partial(raw.call, "fanotify_init", 0x200, 0))


@attack("fs-run-own-program")
def run_own_program(scene: Scene) -> str:
    program = f"{scene.data}/program"
    Path(program).unlink(missing_ok=True)
    raw.write(program, b"#!/bin/sh\nexit 0\n")
    os.close(raw.open_file(f"{scene.data}/mode", os.O_CREAT | os.O_WRONLY, 0o700))
    Path(f"{scene.data}/mode").rename(program)
    true = next(path for path in ("/usr/bin/true", "/bin/true") if Path(path).exists())
    raw.write(program, Path(true).read_bytes())
    return tried(partial(raw.run, program))


@attack("fs-io-uring")
def io_uring(scene: Scene) -> str:
    return tried(
        partial(raw.call, "io_uring_setup", 1, bytes(120)),
        partial(raw.call, "io_uring_enter", -1, 0, 0, 0, None, 0),
        partial(raw.call, "io_uring_register", -1, 0, None, 0),
    )


@attack("fs-new-namespace")
def new_namespace(scene: Scene) -> str:
    return tried(
        partial(raw.fork, NEW_USER | raw.CHILD_ENDS, 0, 0, 0, 0),
        partial(raw.call, "unshare", NEW_USER),
        partial(raw.call, "setns", 0, 0),
    )


@attack("fs-mounts")
def mounts(scene: Scene) -> str:
    """The arguments lead nowhere, so that nothing is mounted even where nothing is confined."""
    return tried(
        partial(raw.call, "mount", None, None, None, 0, None),
        partial(raw.call, "umount2", b"/nowhere", 0),
        partial(raw.call, "pivot_root", None, None),
        partial(raw.call, "chroot", None),
        partial(raw.call, "fsopen", None, 0),
        partial(raw.call, "open_tree", -1, None, 0),
        partial(raw.call, "move_mount", -1, None, -1, None, 0),
        partial(raw.call, "mount_setattr", -1, None, 0, None, 0),
    )


@attack("fs-take-over-a-socket")
def take_over_socket(scene: Scene) -> str:
    path = scene.agent.encode()
    return tried(
        partial(raw.call, "unlinkat", CWD, path, 0),
        partial(raw.call, "renameat2", CWD, path, CWD, f"{scene.data}/agent".encode(), 0),
    )


@attack("fs-take-over-the-hosts-socket")
def take_over_control(scene: Scene) -> str:
    path = f"{scene.run_dir}/control.sock".encode()
    return tried(
        partial(raw.call, "unlinkat", CWD, path, 0),
        partial(raw.call, "renameat2", CWD, path, CWD, f"{scene.data}/control".encode(), 0),
    )


@attack("fs-odd-files-in-own-data")
def odd_files(scene: Scene) -> str:
    path = f"{scene.data}/odd".encode()
    Path(scene.data, "odd").unlink(missing_ok=True)
    return tried(
        partial(raw.call, "mknodat", CWD, path, stat.S_IFIFO | 0o600, 0),
        partial(raw.call, "mknodat", CWD, path, stat.S_IFSOCK | 0o600, 0),
        partial(raw.call, "mknodat", CWD, path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
    )


@attack("fs-endless-sparse-file")
def sparse_file(scene: Scene) -> str:
    descriptor = raw.open_file(f"{scene.data}/sparse", os.O_CREAT | os.O_RDWR)
    try:
        return tried(
            partial(raw.call, "ftruncate", descriptor, 1 << 40),
            partial(raw.call, "fallocate", descriptor, 0, 1 << 40, 1),
            partial(os.pwrite, descriptor, b"x", 1 << 40),
        )
    finally:
        os.close(descriptor)
        Path(scene.data, "sparse").unlink()


@attack("fs-stall-writers")
def stall_writers(scene: Scene) -> str:
    descriptor = raw.open_file(scene.bait)
    return tried(
        partial(raw.call, "fcntl", descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        partial(raw.call, "fcntl", raw.open_file(scene.data), fcntl.F_NOTIFY, 2),
    )


@attack("fs-trap-for-who-clears-away")
def trap(scene: Scene) -> str:
    """Links in the temporary folder lead to what is to be deleted with it."""
    folder = Path(os.environ["TMPDIR"])
    for name, target in (("home", scene.home), ("key", scene.key), ("data", scene.victim_data)):
        raw.call("symlinkat", target.encode(), CWD, str(folder / name).encode())
    os._exit(5)


@attack("fs-calls-newer-than-the-filter")
def newer_calls(scene: Scene) -> str:
    path = scene.profile.encode()
    return tried(
        partial(raw.call, 467, CWD, path, 0, bytes(32), 32),  # open_tree_attr
        partial(raw.call, 468, CWD, path, bytes(24), 24, 0),  # file_getattr
        partial(raw.call, 469, CWD, path, bytes(24), 24, 0),  # file_setattr
        partial(raw.call, 458, struct.pack("IIQQ", 24, 0, 2**64 - 1, 0), bytes(64), 8, 0),
        partial(raw.call, 461, bytes(64), struct.pack("I", 64), 0),  # lsm_list_modules
    )


@attack("fs-reopen-for-writing")
def reopen(scene: Scene) -> str:
    """What it holds for reading cannot be opened again for writing."""
    bait = raw.open_file(scene.bait)
    return tried(
        partial(raw.open_file, f"/proc/self/fd/{bait}", os.O_WRONLY),
        partial(raw.open_file, f"/dev/fd/{bait}", os.O_WRONLY),
    )


@attack("fs-private-folders-only")
def private(scene: Scene) -> str:
    """Not an attack: what has to work, so that refusing everything is no success."""
    written = raw.write(f"{scene.data}/kept") + raw.write(f"{os.environ['TMPDIR']}/gone")
    raise Nothing(f"{written} bytes of its own")
