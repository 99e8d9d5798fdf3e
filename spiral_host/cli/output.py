"""Print results: tables with colour on a terminal, plain text in a pipe, JSON when asked.

Everything that a plugin can have written passes `harmless_line` on its way out.
"""

import json
import math
import sys
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import click

from spiral_host.harmless import harmless_line, harmless_text

COLOURS: Final = {
    "ready": "green",
    "failed": "bold red",
    "quarantined": "bold red",
    "backoff": "yellow",
    "starting": "yellow",
    "draining": "yellow",
}
"""How a cell is coloured that holds nothing but this word."""

NOTHING: Final = "-"


def say(line: object) -> None:
    """Print one line."""
    click.echo(harmless_line(line))


def say_heading(line: object) -> None:
    """Print the line that what follows belongs to, bold on a terminal."""
    click.secho(harmless_line(line), bold=True)


def say_block(texts: Iterable[object]) -> None:
    """Print what somebody else has written, set in, so that no line of it can pass for ours."""
    for text in texts:
        for line in harmless_text(text).split("\n"):
            click.echo(f"    {line}".rstrip())


def say_json(value: object, *, indent: int | None = None) -> None:
    """Print one JSON document, in ASCII, so that no terminal can be misled by it."""
    text = json.dumps(plain(value), indent=indent, allow_nan=False)
    click.echo(text.replace("\x7f", "\\u007f"))


def say_list(values: Sequence[object]) -> None:
    """Print a list as one JSON document that people can read too."""
    say_json(values, indent=2)


def plain(value: object) -> object:
    """Turn what a call may return into what JSON can hold.

    Arrays become nested lists, bytes become `{"base64": ...}`, and numbers that JSON lacks
    become null, as in JavaScript.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes() | bytearray() | memoryview():
            return {"base64": b2a_base64(value, newline=False).decode("ascii")}
        case Mapping():
            return {_key(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    to_list = getattr(value, "tolist", None)
    return plain(to_list()) if to_list else str(value)


def say_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; an empty one is its heading."""
    cells = [[harmless_line(NOTHING if cell is None else cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _say_rich(columns, cells)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def megabytes(size: int | None) -> str | None:
    """Write bytes as people read them."""
    return None if size is None else f"{size / 1e6:.1f} MB"


def seconds(spent: float | None) -> str | None:
    """Write how much of a core's time was spent."""
    return None if spent is None else f"{spent:.2f} s"


def duration(seconds: float | None) -> str | None:
    """Write how long something has lasted."""
    if seconds is None:
        return None
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def _key(key: object) -> str:
    value = plain(key)
    return value if isinstance(value, str) else json.dumps(value)


def _say_rich(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only for terminals
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in cells:
        table.add_row(*(Text(cell, COLOURS.get(cell, "")) for cell in row))
    Console().print(table)
