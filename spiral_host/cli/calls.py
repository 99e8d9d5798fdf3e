"""Commands that do what plugins do to each other: call, publish."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final

import click

from protocol.errors import RemoteError
from spiral_host.cli.arguments import parse_argument, parse_target
from spiral_host.cli.door import Target
from spiral_host.cli.failure import Failure, Status, explain
from spiral_host.cli.options import common
from spiral_host.cli.output import say, say_json

if TYPE_CHECKING:
    from protocol.events import PluginEvent
    from spiral_host import Host


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("service_method", metavar="SERVICE.METHOD")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARG]...")
@click.option("--traceback", is_flag=True, help="When the plugin raises, show where.")
@common
@click.pass_obj
def call(
    target: Target,
    service_method: str,
    arguments: Sequence[str],
    *,
    traceback: bool,
    as_json: bool,
) -> None:
    """Call a method of a service and print its result as JSON; of a stream, each item.

    Each ARG is read as JSON; a bare word is a string.
    """
    del as_json  # the result is JSON anyway; scripts may ask for it all the same
    service, method = parse_target(service_method)
    values = [parse_argument(text, f"argument {n}") for n, text in enumerate(arguments, start=1)]
    with closing(target.connect()) as host:
        _refuse_unknown(host, service, method)
        stub = host.get_service(service)
        try:
            result = getattr(stub, method)(*values)
            for item in result if isinstance(result, Iterator) else (result,):
                say_json(item)
        except RemoteError as error:
            if traceback:
                raise Failure(str(error), detail=error.traceback) from error
            raise Failure(explain(error).text) from error


@click.command()
@click.argument("event_type", metavar="TYPE")
@click.argument("text", required=False, metavar="[JSON]")
@common
@click.pass_obj
def publish(target: Target, event_type: str, text: str | None, *, as_json: bool) -> None:
    """Publish an event: JSON is a built-in type's fields by name, or a custom type's data."""
    event = _event(event_type, text)
    with closing(target.connect()) as host:
        host.publish(event)
    if as_json:
        say_json({"type": event_type, "published": True})
    else:
        say(f"{event_type}: published")


def _event(event_type: str, text: str | None) -> "PluginEvent":
    """Build the event before any daemon is asked.

    Raises:
        Failure: The type is reserved, or the text is no JSON.
        UsageError: The type is no event type, or its fields are wrong.
    """
    from protocol.events import BUILT_IN, RESERVED, custom, from_fields  # noqa: PLC0415 - late

    if event_type in RESERVED:
        what = f"{event_type}: only the daemon publishes it; use a type of your own"
        raise Failure(what, Status.USAGE)
    said = None if text is None else parse_argument(text, "event")
    if event_type in BUILT_IN:
        return from_fields(event_type, {} if said is None else said)
    return custom(event_type, said)


def _refuse_unknown(host: "Host", service: str, method: str) -> None:
    offered = {found.name: found.methods for found in host.list_services()}
    if service not in offered:
        names = ", ".join(offered) or "no service at all"
        what = f"service {service!a}: nobody offers it; offered now: {names}"
        raise Failure(what)
    if method not in offered[service]:
        names = ", ".join(offered[service]) or "no method at all"
        what = f"{service}: has no method {method!a}; it has: {names}"
        raise Failure(what)


COMMANDS: Final = (call, publish)
