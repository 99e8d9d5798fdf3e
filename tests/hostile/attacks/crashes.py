"""Ways to die, to hang and to leave: each harms the one who does it."""

import atexit
import ctypes
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
    from tests.hostile.attacks.gauntlet import Gauntlet, Nothing, Scene, attack
else:
    import raw
    from gauntlet import Gauntlet, Nothing, Scene, attack

__all__ = ["Gauntlet"]

LONGER_THAN_ANYBODY_WAITS = 60


@attack("crash-segfault")
def segfault(scene: Scene) -> str:
    ctypes.string_at(0)
    return "nothing there"


@attack("crash-abort")
def abort(scene: Scene) -> NoReturn:
    os.abort()


@attack("crash-illegal-instruction")
def illegal(scene: Scene) -> str:
    raw.call("kill", os.getpid(), int(signal.SIGILL))
    return "went on"


@attack("crash-exit-0-in-a-call")
def exit_0(scene: Scene) -> NoReturn:
    os._exit(0)


@attack("crash-system-exit")
def system_exit(scene: Scene) -> NoReturn:
    sys.exit(0)


@attack("crash-keyboard-interrupt")
def interrupt(scene: Scene) -> NoReturn:
    raise KeyboardInterrupt


@attack("crash-kill-itself")
def kill_itself(scene: Scene) -> str:
    raw.call("kill", os.getpid(), int(signal.SIGKILL))
    return "went on"


@attack("crash-stack-overflow")
def overflow(scene: Scene) -> str:
    """In C, where nobody counts."""
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    sys.setrecursionlimit(1 << 30)

    def compare(_: int, __: int) -> int:
        sort()
        return 0

    items, compared = (ctypes.c_int * 2)(2, 1), callback(compare)

    def sort() -> None:
        ctypes.CDLL(None).qsort(items, 2, 4, compared)

    sort()
    return "came back"


@attack("crash-loop")
def loop(scene: Scene) -> NoReturn:
    while True:
        pass


@attack("crash-sleep-with-the-lock")
def sleep_with_lock(scene: Scene) -> str:
    """A function in C that never gives back what every thread of Python needs."""
    ctypes.PyDLL(None).sleep(LONGER_THAN_ANYBODY_WAITS)
    return "woke up"


@attack("crash-deadlock")
def deadlock(scene: Scene) -> str:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
    return "got it twice"


@attack("crash-deaf")
def deaf(scene: Scene) -> str:
    """Whatever can be ignored or blocked is."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    threading.Event().wait(LONGER_THAN_ANYBODY_WAITS)
    return "waited in vain"


@attack("crash-leave-slowly")
def leave_slowly(scene: Scene) -> NoReturn:
    """What is to be done at the end never ends, and a thread lives on."""
    atexit.register(threading.Event().wait)
    threading.Thread(target=threading.Event().wait, daemon=False).start()
    raise SystemExit(4)


@attack("crash-raise-where-nobody-looks")
def raise_elsewhere(scene: Scene) -> str:
    class Last:
        def __del__(self) -> None:
            raise ValueError("in the end")

    def run() -> None:
        raise ValueError("in a thread")

    Last()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise Nothing("two errors")


@attack("crash-close-everything")
def close_everything(scene: Scene) -> str:
    raw.call("close_range", 0, 0x7FFFFFFF, 0)
    threading.Event().wait(LONGER_THAN_ANYBODY_WAITS)
    return "nobody noticed"


@attack("crash-bus-error")
def bus_error(scene: Scene) -> str:
    """A mapped file that is cut short is a trap for whoever maps it: here, its owner alone."""
    import mmap

    descriptor = raw.open_file(f"{scene.data}/mapped", os.O_CREAT | os.O_RDWR)
    os.ftruncate(descriptor, 8192)
    page = mmap.mmap(descriptor, 8192)
    os.ftruncate(descriptor, 0)
    return f"{page[5000]}"


@attack("crash-leave-a-core")
def core(scene: Scene) -> str:
    """A core file would show everything that the process knew."""
    os.chdir(scene.data)
    raw.call("kill", os.getpid(), int(signal.SIGQUIT))
    return "went on"
