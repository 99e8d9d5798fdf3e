"""The profiles as data: what a worker may ask of the kernel. Applies nothing.

The file is as long as the list is. Three answers exist for a system call: allowed (outright or by
its arguments), EPERM for those we know and refuse, ENOSYS for every number that is not named here,
those included that are newer than this list. A deny list let ten attacks through that this allow
list stops, among them calls that libseccomp has no name for.

A permission changes what this table answers for a few calls, and nothing else: `CHANGES`.

Names are those of x86-64; another machine skips what it does not have. Arguments are numbers of
the generic kernel interface, the same on x86-64 and aarch64.
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from protocol.limits import DEFAULTS, Limits


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of confinement, as the operator sees it."""

    name: str
    cure: str
    """What to do on a machine that does not have it."""


LAYERS: Final = (
    Layer("namespaces", "install bubblewrap >= 0.8 (apt install bubblewrap), or choose standard"),
    Layer("rlimits", "start the node with hard limits no lower than the plugin's own"),
    Layer("capabilities", "run as an ordinary user, or as root with CAP_SETPCAP"),
    Layer("not-dumpable", "run on Linux >= 3.11 with prctl not filtered away"),
    Layer("no-new-privs", "run on Linux >= 3.11 with prctl not filtered away"),
    Layer(
        "landlock", "boot Linux >= 6.2 with landlock in its lsm= list (CONFIG_SECURITY_LANDLOCK)"
    ),
    Layer("seccomp", "apt install libseccomp2, on a kernel with CONFIG_SECCOMP_FILTER"),
)
"""In the order in which a worker applies them: each takes away what the later ones do not need."""

LAYER_NAMES: Final = tuple(layer.name for layer in LAYERS)
STANDARD: Final = tuple(name for name in LAYER_NAMES if name != "namespaces")
PROFILES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"off": (), "standard": STANDARD, "strict": LAYER_NAMES}
)
"""The layers that each profile stands for. Of `strict`, namespaces are there before the worker is;
the others it applies to itself, as everywhere."""
CURES: Final[Mapping[str, str]] = MappingProxyType({layer.name: layer.cure for layer in LAYERS})

# --- resources ------------------------------------------------------------------------

_FIXED: Final[Mapping[str, int]] = MappingProxyType(
    {
        "CORE": 0,  # a core file would hold whatever secrets the plugin was given
        "MEMLOCK": 64 << 10,  # the kernel's own default until 5.16
        "MSGQUEUE": 0,  # POSIX queues are refused by seccomp too
        "RTPRIO": 0,
        "SIGPENDING": 256,  # counted per user: timers of one plugin must not use up the user's
        "STACK": 8 << 20,  # each thread takes this much of AS, which so bounds threads to 500
    }
)


def rlimits(limits: Limits) -> Mapping[str, int]:
    """Give soft and hard limits of one process; NPROC is not among them, it counts the user's."""
    return {
        **_FIXED,
        "AS": limits.memory,
        "FSIZE": limits.file_size,  # one runaway file must not fill the disk
        "NOFILE": limits.files,  # 1024 is what select() can hold, and the usual soft limit
    }


RLIMITS: Final[Mapping[str, int]] = MappingProxyType(rlimits(DEFAULTS))
"""Those of a plugin that asks for nothing."""

NICE: Final = 5
OOM_SCORE_ADJ: Final = 800
"""Of 1000: when memory runs out a plugin goes first."""

# --- files ----------------------------------------------------------------------------

SYSTEM_READ: Final = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
"""Readable by every worker. Not /proc: neither numpy nor torch misses it."""

DEVICES: Final = ("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero")

LANDLOCK_MINIMUM: Final = 3
"""The first ABI that stops truncation of a file that may only be read."""
LANDLOCK_PORTS: Final = 4
"""The first ABI that tells TCP ports apart."""
LANDLOCK_SIGNALS: Final = 6
"""The first ABI that holds signals back; before, a pid namespace has to."""

# --- files that come with a permission ------------------------------------------------

NETWORK_READ: Final = (
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/protocols",
    "/etc/services",
)
"""Enough to connect to `localhost`. Not resolv.conf: names are asked for by UDP, which nobody
has."""

PROGRAMS: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
"""What `subprocess` may start, besides Python itself; programs need their loader, in /lib."""

GPU_DEVICES: Final = (
    "/dev/nvidiactl",
    "/dev/nvidia[0-9]*",
    "/dev/nvidia-uvm*",
    "/dev/nvidia-caps/*",
    "/dev/dri/renderD*",
    "/dev/kfd",
)
"""Patterns. Not /dev/dri/card*: those are for showing pictures, and for seeing what is shown."""

GPU_READ: Final = (
    "/dev/dri",
    "/proc/driver/nvidia",
    "/sys/bus/pci/devices",
    "/sys/class/drm",
    "/sys/class/kfd",
    "/sys/devices/pci*",
    "/sys/devices/virtual/kfd",
)
"""Patterns: where the drivers' libraries look for what there is."""

LISTED: Final = frozenset({"/dev/dri"})
"""Of these folders only the names may be read: what may be opened in them is named by itself."""

# --- environment ----------------------------------------------------------------------

ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "LOGNAME": "plugin",  # /etc/passwd is out of reach, so getpass.getuser() looks here
        # A process per plugin is the parallelism, as in dask's workers; whoever wants more threads
        # asks threadpoolctl.
        "MKL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",  # a worker has no display
        "PATH": "/usr/bin:/bin",
        "USER": "plugin",
    }
)

# --- system calls ---------------------------------------------------------------------

ALLOWED: Final = frozenset(
    """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range
    open openat creat stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2
    readlink readlinkat getdents getdents64 getcwd chdir fchdir rename renameat renameat2 mkdir
    mkdirat rmdir unlink unlinkat link linkat symlink symlinkat truncate ftruncate fallocate
    fadvise64 fsync fdatasync sync_file_range flock dup dup2 dup3 pipe pipe2 umask sendfile
    copy_file_range splice tee
    mmap munmap mremap mprotect madvise brk mlock mlock2 munlock mincore msync membarrier
    pkey_alloc pkey_free pkey_mprotect
    exit exit_group getpid getppid gettid getuid geteuid getgid getegid getgroups getresuid
    getresgid getpgrp getrusage times set_tid_address set_robust_list
    get_robust_list rseq arch_prctl getrlimit sched_yield
    sched_get_priority_max sched_get_priority_min getcpu wait4
    waitid uname sysinfo getrandom
    nanosleep gettimeofday time timerfd_create
    timerfd_settime timerfd_gettime timer_settime timer_gettime timer_getoverrun
    timer_delete setitimer getitimer alarm
    futex futex_waitv futex_wake futex_wait futex_requeue restart_syscall pause
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack
    signalfd4 eventfd eventfd2 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
    epoll_pwait2 poll ppoll select pselect6
    recvfrom recvmsg recvmmsg shutdown getsockname getpeername getsockopt setsockopt
    """.split()  # noqa: SIM905 - a table for people: one line holds what belongs together
)

REFUSED: Final = frozenset(
    """
    fork vfork execve execveat
    socket connect bind listen accept accept4 memfd_create
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_open
    pidfd_getfd pidfd_send_signal mount umount2 pivot_root chroot move_mount open_tree fsopen
    fsconfig fsmount fspick mount_setattr unshare setns bpf perf_event_open userfaultfd
    io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl kexec_load
    kexec_file_load init_module finit_module delete_module open_by_handle_at name_to_handle_at
    fanotify_init fanotify_mark inotify_init inotify_init1 inotify_add_watch
    shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open
    mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat
    getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    listxattr llistxattr flistxattr
    setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capget capset
    setpgid setsid setpriority setrlimit sched_setattr sched_setparam ioprio_set nice mbind
    set_mempolicy get_mempolicy migrate_pages move_pages personality modify_ldt iopl ioperm acct
    quotactl swapon swapoff reboot sethostname setdomainname settimeofday clock_settime adjtimex
    clock_adjtime syslog uselib vhangup lookup_dcookie mknod mknodat seccomp landlock_create_ruleset
    landlock_add_rule landlock_restrict_self tkill rt_sigqueueinfo rt_tgsigqueueinfo vmsplice
    readahead memfd_secret remap_file_pages
    """.split()  # noqa: SIM905 - a table for people: one line holds what belongs together
)

PRETENDED: Final = frozenset({"sched_setscheduler"})
"""Answered with success and not carried out: libzmq aborts when it is refused."""

OWN_PID: Final = 0x6A0B5EED
"""Stands in a compiled program for the worker's pid. Larger than any pid Linux gives (2**22)."""


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition on one argument of a system call."""

    argument: int
    op: Literal["==", "!=", "masked"]
    value: int
    mask: int = 0
    """With "masked": the bits that are compared, the others being ignored."""


@dataclass(frozen=True, slots=True)
class ArgumentRule:
    """What is answered when all conditions hold; ENOSYS when no rule of the call does."""

    name: str
    answer: int
    """0 lets the call through; anything else is the errno it fails with."""
    when: tuple[Compare, ...]


ALLOW: Final = 0
_INT: Final = 0xFFFFFFFF
_THREAD: Final = 0x10000
_NAMESPACES: Final = 0x7E020080
_FAST_OPEN: Final = 0x20000000
_CLONE_PARENT: Final = 0x8000
_UNIX: Final = 1
_INTERNET: Final = (2, 10)
_STREAM: Final = 1
_SOCKET_FLAGS: Final = 0o2000000 | 0o4000

PRCTL_ALLOWED: Final = (2, 3, 7, 15, 16, 21, 23, 25, 27, 30, 34, 39, 40, 41, 42, 0x53564D41)
PRCTL_REFUSED: Final = (1, 4, 8, 22, 35, 36, 38, 59)
FCNTL_ALLOWED: Final = (*range(8), 36, 37, 38, 1030, 1031, 1032, 1033, 1034)
FCNTL_REFUSED: Final = (8, 10, 15, 1024, 1026)
"""F_SETOWN, F_SETSIG and F_SETOWN_EX send signals that no filter of kill sees; leases and
notifications stall other processes."""
IOCTL_ALLOWED: Final = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
IOCTL_TIOCSTI: Final = 0x5412
ABOUT_A_PROCESS: Final = (
    "getpgid", "getsid", "sched_getaffinity", "sched_getparam", "sched_getscheduler"
)  # fmt: skip
BY_A_CLOCK: Final = ("clock_gettime", "clock_getres", "clock_nanosleep", "timer_create")


def _values(name: str, argument: int, values: tuple[int, ...], answer: int) -> list[ArgumentRule]:
    """Match an `int` argument by its value; the kernel looks at its low 32 bits, and so do we."""
    return [
        ArgumentRule(name, answer, (Compare(argument, "masked", value, _INT),)) for value in values
    ]


def _only(name: str, argument: int, value: int) -> list[ArgumentRule]:
    """Let the call through with this value and refuse it with any other."""
    return [
        ArgumentRule(name, ALLOW, (Compare(argument, "==", value),)),
        ArgumentRule(name, errno.EPERM, (Compare(argument, "!=", value),)),
    ]


def _without(name: str, argument: int, bit: int) -> list[ArgumentRule]:
    """Let the call through without this flag and refuse it with the flag."""
    return [
        ArgumentRule(name, ALLOW, (Compare(argument, "masked", 0, bit),)),
        ArgumentRule(name, errno.EPERM, (Compare(argument, "masked", bit, bit),)),
    ]


def _own(name: str, argument: int, *others: Compare) -> list[ArgumentRule]:
    """Let the call through about this process, by its number or 0; there is no such call else."""
    return [
        ArgumentRule(name, ALLOW, (*others, Compare(argument, "==", process)))
        for process in (0, OWN_PID)
    ]


def _own_clocks(name: str) -> list[ArgumentRule]:
    """Let the call through with a clock of the machine or of an own thread.

    The clock of any process is a negative number made of the process's; that of a thread has
    another bit set, and the kernel gives it to threads of the same process only.
    """
    return [
        ArgumentRule(name, ALLOW, (Compare(0, "masked", 0, _OF_A_PROCESS),)),
        ArgumentRule(name, ALLOW, (Compare(0, "masked", _OF_A_THREAD, _OF_A_THREAD),)),
    ]


_OF_A_PROCESS: Final = 0x80000000
_OF_A_THREAD: Final = 0x80000004

ARGUMENT_RULES: Final = (
    # A thread, and no namespace with it. clone3 hides its flags behind a pointer: it is not named
    # here, fails with ENOSYS, and glibc falls back to clone.
    ArgumentRule("clone", ALLOW, (Compare(0, "masked", _THREAD, _THREAD | _NAMESPACES),)),
    ArgumentRule("clone", errno.EPERM, (Compare(0, "masked", 0, _THREAD),)),
    *_only("kill", 0, OWN_PID),
    *_only("tgkill", 0, OWN_PID),
    *_values("prctl", 0, PRCTL_ALLOWED, ALLOW),
    *_values("prctl", 0, PRCTL_REFUSED, errno.EPERM),
    *_values("fcntl", 1, FCNTL_ALLOWED, ALLOW),
    *_values("fcntl", 1, FCNTL_REFUSED, errno.EPERM),
    *_values("ioctl", 1, IOCTL_ALLOWED, ALLOW),
    *_values("ioctl", 1, (IOCTL_TIOCSTI,), errno.ENOTTY),
    ArgumentRule("prlimit64", errno.EPERM, (Compare(2, "!=", 0),)),
    *_own("prlimit64", 0, Compare(2, "==", 0)),
    *_only("sched_setaffinity", 0, 0),
    # Whose number is whose, how nice it is, where it runs and for how long, is nobody's business.
    *(rule for name in ABOUT_A_PROCESS for rule in _own(name, 0)),
    *_own("getpriority", 1, Compare(0, "==", 0)),
    *(rule for name in BY_A_CLOCK for rule in _own_clocks(name)),
    # A datagram end could be aimed at any other datagram socket, syslog's for one.
    ArgumentRule(
        "socketpair",
        ALLOW,
        (Compare(0, "==", _UNIX), Compare(1, "masked", _STREAM, _INT & ~_SOCKET_FLAGS)),
    ),
    ArgumentRule("socketpair", errno.EPERM, (Compare(0, "!=", _UNIX),)),
    *_without("sendto", 3, _FAST_OPEN),
    *_without("sendmsg", 2, _FAST_OPEN),
    *_without("sendmmsg", 3, _FAST_OPEN),
)

# --- what a permission changes --------------------------------------------------------

_TCP: Final = 6
_TCP_OR_DEFAULT: Final = (0, _TCP)
_OTHER_PROTOCOLS: Final = (132, 262)
"""SCTP and MPTCP, which Landlock's rules for TCP ports do not cover."""
_OTHER_TYPES: Final = (2, 3, 4, 5, 6, 10)
"""Everything but SOCK_STREAM: datagrams, raw, reliably delivered, sequenced, DCCP, packets."""
_TYPE: Final = _INT & ~_SOCKET_FLAGS

SOCKET_OPTIONS: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {
        0: (1, 2, 10, 11),  # IP: TOS, TTL, MTU_DISCOVER, RECVERR
        _TCP: (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 18, 25),  # NODELAY .. USER_TIMEOUT, LOWAT
        41: (16, 26, 66, 67),  # IPV6: UNICAST_HOPS, V6ONLY, RECVTCLASS, TCLASS
    }
)
"""Level to options. Not TCP_FASTOPEN_CONNECT (30), nor TCP_ULP (31), which turns a TCP socket into
one of another kind; every option of the level SOL_SOCKET (1) is allowed."""


def _call(name: str, answer: int, *arguments: tuple[int, int, int]) -> ArgumentRule:
    """Answer when each argument has its value under its mask."""
    return ArgumentRule(
        name, answer, tuple(Compare(at, "masked", value, mask) for at, value, mask in arguments)
    )


_NETWORK_RULES: Final = (
    *(
        _call("socket", ALLOW, (0, family, _INT), (1, _STREAM, _TYPE), (2, protocol, _INT))
        for family in _INTERNET
        for protocol in _TCP_OR_DEFAULT
    ),
    *(
        _call("socket", errno.EPERM, (0, family, _INT), (1, _STREAM, _TYPE), (2, protocol, _INT))
        for family in _INTERNET
        for protocol in _OTHER_PROTOCOLS
    ),
    *(
        _call("socket", errno.EPERM, (0, family, _INT), (1, kind, _TYPE))
        for family in _INTERNET
        for kind in _OTHER_TYPES
    ),
    # The C library asks for its name service by one, and goes on without.
    _call("socket", errno.EAFNOSUPPORT, (0, _UNIX, _INT)),
    _call("setsockopt", ALLOW, (1, 1, _INT)),
    *(
        _call("setsockopt", ALLOW, (1, level, _INT), (2, option, _INT))
        for level, options in SOCKET_OPTIONS.items()
        for option in options
    ),
    *(_call("setsockopt", errno.EPERM, (1, _TCP, _INT), (2, option, _INT)) for option in (30, 31)),
)

_GPU_IOCTL_TYPES: Final = (0x46, 0x64, 0x4B)
"""The byte that tells drivers apart: 'F' nvidia, 'd' drm, 'K' kfd."""
_NVIDIA_UVM: Final = (0x30000001, 0x30000002)
"""Initialize and deinitialize; its other numbers are small and carry no type at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one permission changes in the filter; it replaces whatever stands above for a name."""

    allowed: frozenset[str] = frozenset()
    rules: tuple[ArgumentRule, ...] = ()


CHANGES: Final[Mapping[str, Change]] = MappingProxyType(
    {
        "network": Change(allowed=frozenset({"connect"}), rules=_NETWORK_RULES),
        # Landlock or a pid namespace holds back signals to others. No namespaces, and no children
        # of the node's own, which nobody would reap.
        "subprocess": Change(
            allowed=frozenset(
                {"fork", "vfork", "execve", "execveat", "setsid", "setpgid", "kill", "tgkill"}
            ),
            rules=(_call("clone", ALLOW, (0, 0, _NAMESPACES | _CLONE_PARENT)),),
        ),
        "gpu": Change(
            rules=(
                *(rule for rule in ARGUMENT_RULES if rule.name == "ioctl"),
                *_values("ioctl", 1, _NVIDIA_UVM, ALLOW),
                _call("ioctl", ALLOW, (1, 0, _INT & ~0xFF)),
                *(_call("ioctl", ALLOW, (1, kind << 8, 0xFF00)) for kind in _GPU_IOCTL_TYPES),
            )
        ),
    }
)
"""By the permission's word. No two change the same call, so that every set of them has a filter."""
