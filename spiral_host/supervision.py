"""Read the table `[supervision]` of a manifest: how its plugin is started again, and with whom.

[supervision]
restart = "transient"           # or permanent, temporary: policy.py says what they mean
start_s = 120                   # from spawn to loaded
hang_s = 30                     # from silence to the end
stop_s = 10                     # to finish and leave
crashes = 3                     # restarts before quarantine
backoff_max_s = 5               # longest wait between two of them
[supervision.providers]
base = "block"                  # tell, block, restart: when a dependency is away
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

from protocol.errors import UsageError
from protocol.names import shown
from spiral_host.policy import Policy, Restart

E = TypeVar("E", bound=Enum)


class OnLoss(Enum):
    """What becomes of a plugin while something that it depends on is away."""

    TELL = "tell"
    """Nothing; those who subscribe to ServiceDown and ServiceUp are told."""
    BLOCK = "block"
    """Nobody new is sent to it; its process is kept."""
    RESTART = "restart"
    """It leaves too, and starts again behind its provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """How one plugin is supervised."""

    policy: Policy = Policy()
    providers: Mapping[str, OnLoss] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """Give plain values, fit for JSON."""
        policy = {**asdict(self.policy), "restart": self.policy.restart.value}
        providers = {name: loss.value for name, loss in self.providers.items()}
        return {"policy": policy, "providers": providers}

    @staticmethod
    def from_wire(fields: Mapping[str, Any]) -> "Supervision":
        """Build it from what `to_wire` gave."""
        policy = {**fields["policy"], "restart": Restart(fields["policy"]["restart"])}
        providers = {name: OnLoss(loss) for name, loss in fields["providers"].items()}
        return Supervision(policy=Policy(**policy), providers=providers)


LONGEST_STOP_S: Final = 20.0
"""A stop of everything has 30 s, SIGTERM and SIGKILL among them."""

_SECONDS: Final = {
    "start_s": ("start", 0.1, 3600.0),
    "hang_s": ("hang", 0.1, 3600.0),
    "stop_s": ("drain", 0.0, LONGEST_STOP_S),
    "crashes": ("threshold", 0.0, 1000.0),
    "backoff_max_s": ("backoff_max", 0.0, 3600.0),
}
"""Key, field of the policy, least and greatest value."""

_OF_RESTARTS: Final = ("crashes", "backoff_max_s")


def parse_supervision(table: object, dependencies: Mapping[str, str]) -> Supervision:
    """Read the table.

    Args:
        table: As TOML gives it; None where there is none.
        dependencies: What the plugin declares that it depends on.

    Raises:
        UsageError: It says what cannot be meant, or contradicts itself.
    """
    if table is None:
        return Supervision()
    if not isinstance(table, dict):
        raise UsageError(f"{shown(table)} is no table")
    known = {"restart", "providers", *_SECONDS}
    if unknown := sorted(map(shown, set(table) - known)):
        raise UsageError(f"unknown {unknown[0]}; known: {', '.join(sorted(known))}")
    restart = _word("restart", table.get("restart", "permanent"), Restart)
    policy = Policy(restart=restart, **_numbers(table))
    providers = _providers(table.get("providers", {}), dependencies)
    _check_temporary(restart, table, providers)
    return Supervision(policy=policy, providers=providers)


def _numbers(table: Mapping[str, object]) -> dict[str, Any]:
    numbers: dict[str, float] = {}
    for key, (name, least, greatest) in _SECONDS.items():
        value = table.get(key)
        if value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= greatest or not math.isfinite(value):  # type: ignore[operator, arg-type]
            raise UsageError(f"{key} = {shown(value)} is no number from {least:g} to {greatest:g}")
        numbers[name] = float(value)  # type: ignore[arg-type]
    return numbers


def _providers(declared: object, dependencies: Mapping[str, str]) -> dict[str, OnLoss]:
    if not isinstance(declared, dict):
        raise UsageError(f"providers = {shown(declared)} is no table")
    for name in declared:
        if name not in dependencies:
            cure = "name it among the dependencies too, or leave it out"
            raise UsageError(f"providers: {shown(name)} is no dependency; {cure}")
    return {name: _word(f"providers: {name}", loss, OnLoss) for name, loss in declared.items()}


def _check_temporary(
    restart: Restart, table: Mapping[str, object], providers: Mapping[str, OnLoss]
) -> None:
    if restart is not Restart.TEMPORARY:
        return
    never = 'restart = "temporary" means that it is never started again'
    for key in _OF_RESTARTS:
        if key in table:
            raise UsageError(f"{never}, so {key} means nothing; leave one of them out")
    for name, loss in providers.items():
        if loss is OnLoss.RESTART:
            raise UsageError(f"{never}, also not with {name}; choose tell or block")


def _word(place: str, value: object, kind: Callable[[object], E]) -> E:
    try:
        return kind(value)
    except ValueError:
        words = ", ".join(member.value for member in kind)  # type: ignore[attr-defined]
        raise UsageError(f"{place} = {shown(value)} is none of: {words}") from None
