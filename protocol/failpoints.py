"""Have a process fail at a named step, on its operator's word: how crashes are tried everywhere.

    SPIRAL_HOST_FAILPOINTS="worker:shop/reply.before=2*off->1*kill;spawn.before=error"

A step says `if failpoints.ARMED: failpoints.hit("reply.before")`, and costs that one look. How
the words are read stands in failures.py. Every process reads them once, when it knows what it is:
the node hands them on to its zygote, workers inherit them there and cannot change them.

Each process counts its own passages. SPIRAL_HOST_FAILPOINTS_LOG names a file to which every one is
appended; then all processes that share the file count together, so that one is tried just once.
"""

import os
import signal
import time
from errno import EIO
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from protocol.failures import Failure

SPEC: Final = "SPIRAL_HOST_FAILPOINTS"
LOG: Final = "SPIRAL_HOST_FAILPOINTS_LOG"

POINTS: Final = {
    # A worker starts.
    "spawn.ordered": ("daemon", "the node has been told to start a worker"),
    "spawn.before": ("node", "about to make the worker's folders and descriptors"),
    "spawn.asked": ("node", "the zygote has been told to fork"),
    "fork.before": ("zygote", "about to fork"),
    "fork.after": ("zygote", "has forked, and has not told the node"),
    "fork.heard": ("node", "knows the worker's pid, and has not told the daemon"),
    "fork.told": ("node", "has told the daemon"),
    "confine.before": ("worker", "forked, and free to do what the node may do"),
    "confine.after": ("worker", "confined; nothing has been said"),
    "hello.after": ("worker", "has said hello; no plugin code is here"),
    "hello.heard": ("node", "has heard it, and has not looked whether it is true"),
    "confined.told": ("node", "has told the daemon that the worker is confined"),
    "load.ordered": ("daemon", "the worker has been told what to import"),
    "load.before": ("worker", "about to import the plugin"),
    "load.imported": ("worker", "imported; on_load has not begun"),
    "load.done": ("worker", "on_load has returned, and nobody knows"),
    "load.told": ("worker", "has told the daemon; serves from now on"),
    "load.heard": ("daemon", "has heard it; the plugin is about to be ready"),
    # A call, and a stream.
    "lane.ordered": ("daemon", "the node has been told to tie two endpoints together"),
    "lane.before": ("node", "about to make the lane"),
    "lane.half": ("node", "the callee has its end of the lane, the caller has not"),
    "call.before": ("worker client", "about to send a call"),
    "call.sent": ("worker client", "has sent it; no outcome is here"),
    "call.taken": ("worker client", "the callee has it, and has not run it"),
    "reply.before": ("worker client", "the callee has run it, and has said nothing"),
    "reply.after": ("worker client", "has said its value"),
    "item.before": ("worker client", "about to send an item of a stream"),
    # An event.
    "publish.before": ("worker", "about to send a batch of events to the node"),
    "publish.heard": ("node", "has it; its events have no numbers"),
    "publish.numbered": ("node", "numbered, kept, sent to the hub and to this machine's workers"),
    "hub.before": ("daemon", "a run of events has come, and nobody has been sent it"),
    "hub.after": ("daemon", "it has been fanned out"),
    "deliver.before": ("node", "about to hand a run to a worker"),
    "callback.before": ("worker", "has the run; no callback has begun"),
    "callback.after": ("worker", "the callbacks have run, and nobody knows"),
    # A worker stops, or dies.
    "stop.ordered": ("daemon", "the worker has been told to stop"),
    "drain.before": ("worker", "has heard it"),
    "drain.after": ("worker", "has served what had reached it; about to run on_unload"),
    "unload.after": ("worker", "on_unload has returned"),
    "exit.seen": ("node", "the worker's process has ended and is not reaped"),
    "exit.told": ("node", "its callers and the daemon have been told"),
    "exit.heard": ("daemon", "has heard of it"),
    "exit.written": ("daemon", "what follows from it is on disk; about to acknowledge it"),
    # A daemon finds a node, its own or an earlier daemon's.
    "greet.before": ("node", "about to greet the daemon"),
    "greet.after": ("node", "has said what runs here"),
    "adopt.before": ("daemon", "has been greeted; has taken over nothing"),
    "adopt.worker": ("daemon", "has taken over one worker"),
    "adopt.told": ("daemon", "has heard everything; has resumed nothing"),
    "adopt.after": ("daemon", "goes on; no client has been let in"),
    # What is wanted is written down.
    "store.before": ("daemon", "about to write a change"),
    "store.after": ("daemon", "it is on disk, and nothing has been done about it"),
    # All stops.
    "leave.before": ("daemon", "no plugin is left; about to end the node"),
    "leave.heard": ("node", "has been told to end"),
    "leave.after": ("node", "has no worker and no zygote; about to remove its folders"),
    "close.before": ("daemon", "the node has ended; about to close the store"),
    "close.after": ("daemon", "everything is closed; about to remove the files of the run"),
}
"""What there is: name -> (the kinds of process that pass it, what is true there)."""

FAIL: Final = frozenset(
    (
        *("spawn.before", "fork.before", "confine.before", "confine.after"),
        *("load.before", "load.imported", "load.done", "unload.after"),
        *("lane.before", "call.before", "call.taken", "reply.before", "item.before"),
        *("store.before",),
    )
)
"""Those in front of a step that can fail by itself: only there does `error` stand for anything."""

ARMED: Final[list[str]] = []
"""What this process is, `worker:adder`, if it has anything to do at its points; else empty. Every
step looks at it: it is no function, and one that was imported by its name is the same."""

_environment = {key: os.environ[key] for key in (SPEC, LOG) if key in os.environ}
_log = -1
_failures: "list[Failure]" = []
_passages = count(1)


class FailpointError(OSError):
    """Stands for a step that failed; raised only where `error` was asked for."""


def arm(kind: str, plugin: str = "") -> None:
    """Say what this process is; from here on its points are armed, if any are.

    Args:
        kind: `daemon`, `node`, `zygote`, `worker` or `client`.
        plugin: Whose worker it is.

    Raises:
        UsageError: What the environment says cannot be meant.
        OSError: The file cannot be written.
    """
    global _log, _failures  # noqa: PLW0603 - what a process is, is global
    if not _environment:
        return
    from protocol.failures import parse  # noqa: PLC0415 - seldom needed

    who = f"{kind}:{plugin}" if plugin else kind
    said = parse(_environment.get(SPEC, ""))
    _failures = [failure for failure in said if failure.is_for(who)]
    if LOG in _environment and _log < 0:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        _log = os.open(_environment[LOG], flags, 0o600)
    ARMED[:] = [who] if _failures or _log >= 0 else []


def hit(name: str) -> None:
    """Pass a point: count it, and do what was asked for.

    Raises:
        FailpointError: That was asked for.
        KeyError: There is no such point, or not here, which is a bug of ours.
    """
    kinds, _ = POINTS[name]
    (who,) = ARMED
    if who.partition(":")[0] not in kinds.split():
        raise KeyError(f"{who} passes {name}, which is said to be passed by: {kinds}")
    passed = _note(who, name) if _log >= 0 else None
    for failure in _failures:
        if failure.name == name:
            number = failure.count() if passed is None else failure.count_among(passed)
            _act(who, name, *failure.action(number))


def handed_on() -> dict[str, str]:
    """Give the variables for a process whose environment is not its parent's."""
    return dict(_environment)


def descriptors() -> frozenset[int]:
    """Give what a worker has to keep open."""
    return frozenset() if _log < 0 else frozenset({_log})


def _note(who: str, name: str) -> str:
    """Append a passage to the file; give all that had been passed by then, this one too."""
    line = f"passed {who}/{name} {os.getpid()} {next(_passages)}\n"
    os.write(_log, line.encode())
    text = os.pread(_log, os.fstat(_log).st_size, 0).decode()
    return text[: text.index(line) + len(line)]


def _act(who: str, name: str, action: str, milliseconds: int) -> None:
    if action != "off" and _log >= 0:
        os.write(_log, f"{action} {who}/{name} {os.getpid()}\n".encode())
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "error":
        raise FailpointError(EIO, f"failpoint {name}")
    elif action == "delay":
        time.sleep(milliseconds / 1000)
