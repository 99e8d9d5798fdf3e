"""Attacks on other processes, on the kernel's rarer doors, and on the worker's own confinement."""

import ctypes
import fcntl
import mmap
import os
import platform
import resource
import signal
import socket
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import Gauntlet, Refused, Scene, attack, tried
else:
    import raw
    from gauntlet import Gauntlet, Refused, Scene, attack, tried

__all__ = ["Gauntlet"]

KILL = int(signal.SIGKILL)
VM, VFORK, NEW_PID = 0x100, 0x4000, 0x20000000


def signals(pid: int, number: int) -> str:
    """Signal a process in every way that there is."""
    info = struct.pack("iii", number, 0, -1) + bytes(116)
    return tried(
        partial(raw.call, "kill", pid, number),
        partial(raw.call, "tgkill", pid, pid, number),
        partial(raw.call, "tkill", pid, number),
        partial(raw.call, "rt_sigqueueinfo", pid, number, info),
        partial(raw.call, "rt_tgsigqueueinfo", pid, pid, number, info),
        lambda: raw.call("pidfd_send_signal", raw.call("pidfd_open", pid, 0), number, None, 0),
    )


@attack("proc-kill-bystander")
def kill_bystander(scene: Scene) -> str:
    return signals(scene.bystander, KILL)


@attack("proc-kill-host")
def kill_host(scene: Scene) -> str:
    return tried(
        *(partial(raw.call, "kill", pid, KILL) for pid in scene.hosts),
        *(partial(raw.call, "tgkill", pid, pid, KILL) for pid in scene.hosts),
        *(partial(raw.call, "pidfd_open", pid, 0) for pid in scene.hosts),
    )


@attack("proc-signal-groups")
def signal_groups(scene: Scene) -> str:
    """Signal 0 only asks whether one could: what is asked here would be everybody's end."""
    groups = (-1, -scene.bystander, *(-pid for pid in scene.hosts))
    return tried(*(partial(raw.call, "kill", pid, 0) for pid in groups))


@attack("proc-kill-by-descriptor")
def kill_by_descriptor(scene: Scene) -> str:
    """The kernel signals the owner of a descriptor: a kill that no filter of kill sees."""

    def own(command: int, owner: object) -> str:
        first, second = socket.socketpair()
        with first, second:
            raw.call("fcntl", first.fileno(), fcntl.F_SETSIG, KILL)
            raw.call("fcntl", first.fileno(), command, owner)
            raw.call("fcntl", first.fileno(), fcntl.F_SETFL, os.O_ASYNC)
            second.send(b"x")
        return "owned"

    def by_ioctl() -> int:
        first, _ = socket.socketpair()
        fiosetown, siocspgrp = 0x8901, 0x8902
        owner = struct.pack("i", scene.bystander)
        raw.call("ioctl", first.fileno(), fiosetown, owner)
        return raw.call("ioctl", first.fileno(), siocspgrp, owner)

    set_owner_ex = 15
    return tried(
        lambda: own(fcntl.F_SETOWN, scene.bystander),
        lambda: own(set_owner_ex, struct.pack("ii", 1, scene.bystander)),
        by_ioctl,
    )


@attack("proc-kill-by-timer")
def kill_by_timer(scene: Scene) -> str:
    """A timer that signals a thread may not name another process's."""
    thread_id = 4
    event = struct.pack("QiiI", 0, KILL, thread_id, scene.bystander) + bytes(44)
    return tried(partial(raw.call, "timer_create", 1, event, bytes(8)))


@attack("proc-trace")
def trace(scene: Scene) -> str:
    seize = 0x4206
    detach = 17

    def ptrace(pid: int) -> str:
        raw.call("ptrace", seize, pid, 0, 0)
        interrupt = 0x4207
        raw.call("ptrace", interrupt, pid, 0, 0)
        os.waitpid(pid, 0x40000000)
        raw.call("ptrace", detach, pid, 0, 0)
        return f"traced {pid}"

    return tried(partial(ptrace, scene.bystander))


@attack("proc-trace-host")
def trace_host(scene: Scene) -> str:
    seize = 0x4206
    return tried(*(partial(raw.call, "ptrace", seize, pid, 0, 0) for pid in scene.hosts))


@attack("proc-read-memory")
def read_memory(scene: Scene) -> str:
    here = ctypes.create_string_buffer(8)
    local = struct.pack("QQ", ctypes.addressof(here), 8)

    def vectored(pid: int) -> int:
        remote = struct.pack("QQ", 0x400000, 8)
        try:
            return raw.call("process_vm_readv", pid, local, 1, remote, 1, 0)
        except OSError as error:
            if error.errno == 14:  # that address is nobody's, but it was looked for
                return 0
            raise

    pids = (scene.bystander, *scene.hosts)
    return tried(
        *(partial(vectored, pid) for pid in pids),
        *(partial(raw.open_file, f"/proc/{pid}/mem", os.O_RDWR) for pid in pids),
        *(partial(raw.read, f"/proc/{pid}/maps") for pid in pids),
        *(partial(raw.read, f"/proc/{pid}/environ") for pid in pids),
    )


@attack("proc-look-through-links")
def look_through(scene: Scene) -> str:
    pids = (scene.bystander, *scene.hosts)
    names = ("exe", "cwd", "root", "fd/0", "ns/net")
    return tried(*(partial(os.readlink, f"/proc/{pid}/{name}") for pid in pids for name in names))


@attack("proc-steal-descriptor")
def steal(scene: Scene) -> str:
    def take(pid: int) -> int:
        return raw.call("pidfd_getfd", raw.call("pidfd_open", pid, 0), 0, 0)

    return tried(*(partial(take, pid) for pid in (scene.bystander, *scene.hosts)))


@attack("proc-slow-others")
def slow_others(scene: Scene) -> str:
    pids = (scene.bystander, *scene.hosts[:4])
    limit = struct.pack("QQ", 10**6, 10**6)
    return tried(
        *(partial(raw.call, "setpriority", 0, pid, 19) for pid in pids),
        *(partial(raw.call, "sched_setaffinity", pid, 8, struct.pack("Q", 1)) for pid in pids),
        *(partial(raw.call, "prlimit64", pid, resource.RLIMIT_CPU, limit, None) for pid in pids),
        *(partial(raw.call, "ioprio_set", 1, pid, 3 << 13) for pid in pids),
        *(partial(raw.call, "sched_setattr", pid, struct.pack("IIQ", 48, 5, 0), 0) for pid in pids),
    )


@attack("proc-idle-others")
def idle_others(scene: Scene) -> str:
    """This one call is answered with success and not carried out: what counts is what it did."""

    def idle(pid: int) -> int:
        raw.call("sched_setscheduler", pid, os.SCHED_IDLE, bytes(4))
        policy = raw.call("sched_getscheduler", pid)
        if policy != os.SCHED_IDLE:
            raise Refused("unchanged")
        return policy

    return tried(partial(idle, scene.bystander), partial(idle, scene.hosts[4]))


@attack("proc-undo-confinement")
def undo(scene: Scene) -> str:
    def prctl(option: int, value: int) -> int:
        return raw.call("prctl", option, value, 0, 0, 0)

    limit = struct.pack("QQ", 2**64 - 1, 2**64 - 1)
    dumpable, parent_dies, securebits, subreaper = 4, 1, 28, 36
    return tried(
        partial(prctl, dumpable, 1),
        partial(prctl, parent_dies, 0),
        partial(prctl, securebits, 0),
        partial(prctl, subreaper, 1),
        partial(prctl, 47, 2),  # ambient capabilities
        partial(raw.call, "prlimit64", 0, resource.RLIMIT_NOFILE, limit, None),
        partial(raw.call, "setrlimit", resource.RLIMIT_NOFILE, limit),
        partial(raw.write, "/proc/self/oom_score_adj", b"-1000", 0),
        partial(raw.call, "setpriority", 0, 0, -5),
        partial(raw.call, "capset", struct.pack("II", 0x20080522, 0), b"\xff" * 24),
        partial(raw.call, "setsid"),
        partial(raw.call, "seccomp", 1, 0, None),
        partial(raw.call, "landlock_create_ruleset", None, 0, 1),
    )


@attack("proc-become-somebody-else")
def become(scene: Scene) -> str:
    uid, gid = os.getuid(), os.getgid()
    return tried(
        partial(raw.call, "setuid", uid),
        partial(raw.call, "setresuid", uid, uid, uid),
        partial(raw.call, "setreuid", uid, uid),
        partial(raw.call, "setgid", gid),
        partial(raw.call, "setresgid", gid, gid, gid),
        partial(raw.call, "setgroups", 0, None),
    )


@attack("proc-fork")
def fork(scene: Scene) -> str:
    return tried(
        partial(raw.fork, name="fork"),
        partial(raw.fork, raw.CHILD_ENDS, 0, 0, 0, 0),
        partial(raw.call, "clone3", None, 0),
    )


@attack("proc-fork-in-disguise")
def fork_in_disguise(scene: Scene) -> str:
    """Flags that no thread has, and one that shares memory; in an own process all are harmless."""
    flags = (VM | VFORK | raw.CHILD_ENDS, NEW_PID | raw.CHILD_ENDS, 0x10000 | NEW_PID)
    return tried(partial(raw.call, "vfork"), *(partial(raw.call, "clone", f, 0) for f in flags))


@attack("proc-run-a-program")
def run_program(scene: Scene) -> str:
    return tried(partial(raw.run, "/bin/true"), partial(raw.run, "/usr/bin/true"))


@attack("proc-become-a-program")
def execute(scene: Scene) -> str:
    """Nobody is there to be run, so that nothing is lost where it is allowed."""
    return tried(
        partial(raw.call, "execve", b"/nowhere", None, None),
        partial(raw.call, "execveat", -100, b"/nowhere", None, None, 0),
    )


@attack("proc-outlive-its-worker")
def outlive(scene: Scene) -> str:
    def leave_behind() -> str:
        pid = raw.call("clone", raw.CHILD_ENDS, 0, 0, 0, 0)
        if not pid:
            os.setsid()
            if raw.call("clone", raw.CHILD_ENDS, 0, 0, 0, 0):
                os._exit(0)
            os.execv("/bin/sleep", ["sleep", "20"])
        os.waitpid(pid, 0)
        return "left a grandchild behind"

    return tried(leave_behind)


def machine_code(code: bytes) -> int:
    """Run instructions as they are, and give what they give."""
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return int(ctypes.CFUNCTYPE(ctypes.c_long)(address)())


@attack("proc-calls-of-32-bits")
def calls_of_32_bits(scene: Scene) -> str:
    get_pid = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20; int 0x80; ret
    return tried(partial(machine_code, get_pid))


@attack("proc-calls-of-x32")
def calls_of_x32(scene: Scene) -> str:
    if platform.machine() != "x86_64":
        raise Refused("ENOSYS")
    return tried(partial(raw.call, 0x40000000 + 39), partial(raw.call, 0x40000000 + 41, 2, 1, 0))


@attack("proc-rare-doors")
def rare_doors(scene: Scene) -> str:
    return tried(
        partial(raw.call, "bpf", 0, bytes(72), 72),
        partial(
            raw.call, "perf_event_open", struct.pack("IIQ", 1, 112, 0) + bytes(96), 0, -1, -1, 0
        ),
        partial(raw.call, "userfaultfd", 1),
        partial(raw.call, "modify_ldt", 0, bytes(16), 16),
        partial(raw.call, "personality", 0xFFFFFFFF),
        partial(raw.call, "kcmp", os.getpid(), os.getpid(), 0, 0, 1),
        partial(raw.call, "memfd_secret", 0),
        partial(raw.call, "name_to_handle_at", -100, scene.key.encode(), None, bytes(4), 0),
        partial(raw.call, "process_madvise", -1, None, 0, 21, 0),
        partial(raw.call, "quotactl", 0, None, 0, None),
        partial(raw.call, "lookup_dcookie", 0, None, 0),
        partial(raw.call, "get_mempolicy", None, None, 0, None, 0),
        partial(raw.call, "migrate_pages", scene.bystander, 0, None, None),
        partial(raw.call, "syslog", 3, bytes(8), 8),
    )


@attack("proc-rule-the-machine")
def rule_the_machine(scene: Scene) -> str:
    """The arguments cannot be meant, so that nothing happens even where nothing is confined."""
    return tried(
        partial(raw.call, "reboot", 0, 0, 0, None),
        partial(raw.call, "sethostname", None, -1),
        partial(raw.call, "setdomainname", None, -1),
        partial(raw.call, "settimeofday", 1, 1),
        partial(raw.call, "clock_settime", -1, None),
        partial(raw.call, "adjtimex", None),
        partial(raw.call, "swapon", None, 0),
        partial(raw.call, "swapoff", None),
        partial(raw.call, "init_module", None, 0, None),
        partial(raw.call, "finit_module", -1, None, 0),
        partial(raw.call, "delete_module", None, 0),
        partial(raw.call, "kexec_load", 0, 0, None, -1),
        partial(raw.call, "acct", b"/nowhere"),
        partial(raw.call, "iopl", 4),
    )


@attack("proc-leave-its-cgroup")
def leave_cgroup(scene: Scene) -> str:
    if not scene.cgroup:
        raise Refused("ENOENT")
    return tried(partial(raw.open_file, scene.cgroup, os.O_WRONLY))


@attack("proc-type-into-the-terminal")
def type_into(scene: Scene) -> str:
    push = 0x5412
    return tried(
        *(partial(raw.call, "ioctl", number, push, b"x") for number in range(3)),
        partial(raw.call, "ioctl", 0, 0x100000000 | push, b"x"),
        partial(raw.open_file, "/dev/tty", os.O_RDWR),
        partial(raw.open_file, "/dev/ptmx", os.O_RDWR),
    )


@attack("proc-stop-itself")
def stop(scene: Scene) -> str:
    raw.call("kill", os.getpid(), int(signal.SIGSTOP))
    return "was let go on"


@attack("proc-guess-pids")
def guess_pids(scene: Scene) -> str:
    """Whether a number is a process's, since when, and whose."""
    return tried(lambda: Path(f"/proc/{scene.bystander}").stat().st_uid)


@attack("proc-ask-what-others-may")
def what_others_may(scene: Scene) -> str:
    """The capabilities of another process, and by that whether there is one."""
    asked = struct.pack("Ii", 0x20080522, scene.bystander)
    return tried(partial(raw.call, "capget", asked, bytes(24)))


@attack("proc-ask-how-others-run")
def how_others_run(scene: Scene) -> str:
    pid = scene.bystander
    return tried(
        partial(raw.call, "getpgid", pid),
        partial(raw.call, "getsid", pid),
        partial(raw.call, "getpriority", 0, pid),
        partial(raw.call, "getpriority", 2, os.getuid()),
        partial(raw.call, "sched_getscheduler", pid),
        partial(raw.call, "sched_getparam", pid, bytes(4)),
        partial(raw.call, "sched_getaffinity", pid, 128, bytes(128)),
        partial(raw.call, "prlimit64", pid, resource.RLIMIT_NOFILE, None, bytes(16)),
        partial(raw.call, "get_robust_list", pid, bytes(8), bytes(8)),
        partial(raw.call, "clock_gettime", (~pid << 3) | 2, bytes(16)),
        partial(raw.call, "clock_getres", (~pid << 3) | 2, bytes(16)),
        partial(raw.call, "timer_create", (~pid << 3) | 2, None, bytes(8)),
        partial(raw.call, "clock_nanosleep", (~pid << 3) | 2, 0, bytes(16), None),
    )
