"""Read what people type after a command; talks to nobody."""

import json
import re
from collections.abc import Sequence
from typing import Final, NoReturn

from protocol.names import EVERYTHING, parse_pattern, parse_service
from spiral_host.cli.failure import Failure, Status

_NUMBER_LIKE: Final = re.compile(r"[-+]?[.\d][\d.,eE+_-]*\Z")
_PORT: Final = re.compile(r"\d{1,6}\Z", re.ASCII)
_SHOWN: Final = 60


def parse_argument(text: str, where: str = "argument") -> object:
    """Read JSON; a bare word is itself.

    What looks like JSON gone wrong is refused rather than passed on as text: it begins as an
    object, a list, a string, a number or an option does.

    Raises:
        Failure: It is neither JSON nor a bare word; names `where`.
    """
    try:
        text.encode()
        return json.loads(text, parse_constant=_refuse_constant)
    except UnicodeEncodeError:
        what = "is no UTF-8; type it in UTF-8"
    except (ValueError, RecursionError) as error:
        if not text.startswith(("{", "[", '"', "-")) and not _NUMBER_LIKE.match(text):
            return text
        what = f"is no JSON ({_why(error)}); quote text twice, such as '\"word\"'"
    shown = ascii(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
    what = f"{where} {shown}: {what}"
    raise Failure(what, Status.USAGE)


def parse_target(text: str) -> tuple[str, str]:
    """Split `SERVICE.METHOD` at its last dot.

    Raises:
        Failure: There is nothing on one side of it.
        UsageError: The first half is no service name.
    """
    service, _, method = text.rpartition(".")
    if not service or not method:
        what = f"{text!a}: is no SERVICE.METHOD; write such as math.add"
        raise Failure(what, Status.USAGE)
    return parse_service(service), method


def parse_granted(texts: Sequence[str]) -> dict[str, object]:
    """Read permissions as a manifest's table: `gpu`, `network=443`, `read=/srv/images`.

    What a word means is looked at by the daemon.

    Raises:
        Failure: A word stands alone and with a value.
    """
    table: dict[str, object] = {}
    for text in texts:
        word, equals, item = text.partition("=")
        items = table.setdefault(word, [] if equals else True)
        if isinstance(items, list) and equals:
            items.append(int(item) if _PORT.match(item) else item)
        elif equals or items is not True:
            what = f"{text!a}: {word} stands there with a value and without; leave one out"
            raise Failure(what, Status.USAGE)
    return table


def parse_topics(texts: Sequence[str]) -> list[str]:
    """Give event types and patterns once each; none, or `*` among them, is everything.

    Raises:
        UsageError: One is neither an event type nor a pattern such as `Trainer.*`.
    """
    if not texts or EVERYTHING in texts:
        return [EVERYTHING]
    return [parse_pattern(text) for text in dict.fromkeys(texts)]


def _refuse_constant(name: str) -> NoReturn:
    """Leave `NaN` and `Infinity` to the bare words: JSON has no such numbers."""
    raise ValueError(name)


def _why(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f"{error.msg} at character {error.pos + 1}"
        case RecursionError():
            return "nested too deep"
        case _:
            return str(error)[:_SHOWN]
