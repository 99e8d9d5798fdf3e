"""Say how loading went, one line a plugin; decides nothing about what to do then."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from spiral_host.cli.failure import Failure, Status, show
from spiral_host.cli.output import say, say_list

if TYPE_CHECKING:
    from spiral_host import LoadResult, PluginInfo

READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one plugin, or of one path that gave none.

    Attributes:
        id: None when the path did not say which plugin it holds.
        reason: Why it is not ready; empty when it is.
        traceback: The plugin's own, when its code raised.
    """

    id: str | None
    path: str
    state: str
    pid: int | None = None
    reason: str = ""
    traceback: str = ""


def outcomes(results: "Sequence[LoadResult]", infos: "Sequence[PluginInfo]") -> list[Outcome]:
    """Join what loading said with what has become of the plugins since.

    Args:
        results: One for each plugin that was asked for, in order.
        infos: Every plugin the daemon knows; those it knew before come last.
    """
    known = {info.id: info for info in infos}
    found = [_joined(result, known) for result in results]
    mentioned = {result.id for result in results}
    return found + [_since(info) for info in infos if info.id not in mentioned]


def report(found: Sequence[Outcome], *, as_json: bool) -> int:
    """Print the ready ones as results and the failed ones as errors; give the exit status."""
    if as_json:
        say_list([asdict(outcome) for outcome in found])
    for outcome in found:
        if outcome.state != READY:
            show(_failure(outcome, traceback=not as_json))
        elif not as_json:
            say(f"{outcome.id}: ready, pid {outcome.pid}")
    return Status.YES if all(outcome.state == READY for outcome in found) else Status.NO


def _joined(result: "LoadResult", known: "dict[str, PluginInfo]") -> Outcome:
    """Believe a refusal; the plugin that has this id may be another one, and well."""
    if result.ok and result.id in known:
        return _since(known[result.id])
    return Outcome(
        id=result.id,
        path=str(result.path),
        state=result.state,
        reason=result.reason,
        traceback=result.traceback,
    )


def _since(info: "PluginInfo") -> Outcome:
    return Outcome(
        id=info.id,
        path=str(info.path),
        state=info.state,
        pid=info.pid,
        reason=info.reason,
        traceback=info.traceback,
    )


def _failure(outcome: Outcome, *, traceback: bool) -> Failure:
    again = f"spiral-host restart {outcome.id}" if outcome.id else "spiral-host load"
    cure = f"; fix the plugin, then: {again}" if outcome.traceback else ""
    text = f"{outcome.id or outcome.path}: {outcome.state}: {outcome.reason}{cure}"
    return Failure(text, detail=outcome.traceback if traceback else "")
