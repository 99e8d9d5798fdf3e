"""The command `doctor`: what this machine can give. Tries it, so it needs no daemon."""

from typing import TYPE_CHECKING, Final

import click

from spiral_host.cli.failure import Status
from spiral_host.cli.options import common
from spiral_host.cli.output import say, say_json, say_table

if TYPE_CHECKING:
    from spiral_host.doctor import Examination

PLAIN: Final = (
    "plain Python, which takes about one and a half times as long; "
    "cure: a C compiler and Python's headers, then install it again, with pip's --force-reinstall "
    "and --no-cache-dir (in a clone: make setup)"
)
PROFILES: Final = ("standard", "strict")


@click.command()
@common
def doctor(*, as_json: bool) -> int:
    """Say which layers of the sandbox this machine can give, and how to get the others.

    Exit status 1 where the default profile cannot be had.
    """
    from spiral_host.doctor import examine  # noqa: PLC0415 - only this command starts the trial

    found = examine()
    lacks = {profile: found.lacks(profile) for profile in PROFILES}
    if as_json:
        say_json(
            {
                "kernel": found.kernel,
                "machine": found.machine,
                "python": found.python,
                "user": found.user,
                "compiled": found.is_compiled,
                "layers": dict(found.layers),
                "landlock_abi": found.landlock_abi,
                "landlock": dict(found.landlock()),
                "groups": list(found.groups),
                "profiles": {profile: not lacking for profile, lacking in lacks.items()},
            },
            indent=2,
        )
    else:
        _say_page(found, lacks)
    return Status.NO if lacks["standard"] else Status.YES


def _say_page(found: "Examination", lacks: dict[str, list[str]]) -> None:
    user = "root" if found.user == 0 else f"user {found.user}"
    say(f"Linux {found.kernel} on {found.machine}, Python {found.python}, {user}")
    say("")
    rows = [(name, "missing" if why else "holds", why) for name, why in found.layers.items()]
    say_table(("layer", "is", "why, and the cure"), rows)
    say("")
    version = f"Landlock ABI {found.landlock_abi}"
    say_table(
        (version, "is"), [(what, "holds" if it else "missing") for what, it in found.landlock()]
    )
    say("")
    say(f"calls: {'compiled' if found.is_compiled else PLAIN}")
    say(f"control groups: {', '.join(found.groups) or f'none: {found.no_groups}'}")
    for profile, lacking in lacks.items():
        say(f"--sandbox {profile}: " + (f"no: {', '.join(lacking)}" if lacking else "yes"))


COMMANDS: Final = (doctor,)
