"""What every attacking plugin is: it tries attacks by name, and says what it got.

Laid into the folders of these plugins, so it imports nothing of the tests. An outcome is a word and
what supports it:

    got       the attacker has what it wanted
    nothing   it was let through, and changed nothing; whether that is so is seen from outside
    refused   an error, by name

That it died of the attempt, or was ended, is for others to say.
"""

import errno
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from plugin_worker import Plugin, PluginContext, SpiralHostError

if TYPE_CHECKING:
    from tests.hostile.attacks import raw
else:
    import raw


PATIENCE_S: Final = 20.0
"""For what is answered at once, on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where an attacker finds what it is after; all decoys but for the host itself.

    Attributes:
        home: A user's home folder; `secret` is what the files in it say.
        key: A private key in it; `profile` a file that a shell would run; `link` a link to the key.
        agent: A named socket in it that listens; `journal` one for datagrams.
        abstract: A socket without a path, which listens too.
        tcp, udp: Ports of this machine where somebody listens; `other_tcp` another one.
        granted: A folder that the plugin `grants` may read, with `open` and a link out of it.
        shared: A file in /dev/shm.
        bystander: A process of the same user that harms nobody.
        hosts: The processes of the host: daemon, node, zygote, victim, application.
        run_dir, victim_data, victim_log: Where the host and another plugin keep what is theirs.
        bait: A file in the attacker's own folder, which it may read.
        site: The folder of the libraries.
        cgroup: A list of processes that another group of them has, or empty.
        ctx: The attacker's own way to the host.
    """

    home: str
    secret: str
    key: str
    profile: str
    link: str
    agent: str
    journal: str
    abstract: str
    tcp: int
    other_tcp: int
    udp: int
    granted: str
    shared: str
    bystander: int
    hosts: list[int]
    run_dir: str
    victim_data: str
    victim_log: str
    bait: str
    site: str
    cgroup: str
    ctx: PluginContext

    @property
    def data(self) -> str:
        """The attacker's own folder for data."""
        return str(self.ctx.data_dir)


Attack: TypeAlias = Callable[[Scene], str]
"""Gives what it got, raises what it was refused with."""

ATTACKS: Final[dict[str, Attack]] = {}


class Refused(Exception):
    """Nobody raised an error, and yet it was not done; the text says how that is known."""


class Nothing(Exception):
    """Whatever was tried was let through and is said to have no effect."""


def attack(name: str) -> Callable[[Attack], Attack]:
    """Make a function an attack of this name."""

    def add(function: Attack) -> Attack:
        ATTACKS[name] = function
        return function

    return add


def tried(*attempts: Callable[[], object]) -> str:
    """Try one thing in several ways; give what they got, in words.

    Raises:
        Refused: Every one of them was, with these errors.
    """
    got, errors = [], set()
    for number, attempt in enumerate(attempts):
        try:
            got.append(f"by way {number}: {attempt()!r}")
        except OSError as error:
            errors.add(name_of(error))
        except Refused as error:
            errors.add(str(error))
    if got:
        return ", ".join(got)
    raise Refused(" ".join(sorted(errors)))


def name_of(error: BaseException) -> str:
    """Name an error as the kernel does, or as Python does; what the library refuses, as it does."""
    if isinstance(error, SpiralHostError):
        return type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__


class Service:
    """Attacks."""

    def __init__(self, ctx: PluginContext) -> None:
        self._ctx = ctx

    def attack(self, name: str, numbers: Mapping[str, int], scene: Mapping[str, Any]) -> str:
        """Try one attack; give its outcome."""
        raw.NUMBERS.update(numbers)
        try:
            return f"got {ATTACKS[name](Scene(**scene, ctx=self._ctx))}"[:2000]
        except Nothing as error:
            return f"nothing {error}"
        except Refused as error:
            return f"refused {error}"
        except Exception as error:  # noqa: BLE001 - that it was refused with this is the outcome
            said = "" if isinstance(error, OSError) else f": {error}"
            return f"refused {name_of(error)}{said}"

    def names(self) -> list[str]:
        """Name every attack that there is here."""
        return list(ATTACKS)

    def where(self) -> int:
        """Say where this process has a function of the C library."""
        return id(sys.modules)


class Gauntlet(Plugin):
    """Offers to attack, under its own id."""

    def on_load(self, ctx: PluginContext) -> None:
        """Offer the service."""
        ctx.register_service(ctx.plugin_id, Service(ctx))
