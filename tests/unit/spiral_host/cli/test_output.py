import json

import numpy as np
import pytest

from spiral_host.cli.output import duration, megabytes, plain, say_json, say_table, seconds


def test_every_result_of_a_call_becomes_json() -> None:
    """
    Arrays are nested lists, bytes are marked, and what JSON lacks is null.
    """
    value = {
        "array": np.array([[1.5, 2.0], [3.0, float("nan")]]),
        "scalar": np.float32(0.5),
        "flags": np.array([True, False]),
        "raw": b"\x00\xff",
        "pair": (1, None),
        "infinite": float("inf"),
        7: "seven",
    }

    assert plain(value) == {
        "array": [[1.5, 2.0], [3.0, None]],
        "scalar": 0.5,
        "flags": [True, False],
        "raw": {"base64": "AP8="},
        "pair": [1, None],
        "infinite": None,
        "7": "seven",
    }


def test_json_is_one_ascii_line(capsys: pytest.CaptureFixture[str]) -> None:
    """
    JSON on a terminal holds no character that a terminal obeys, and reads back as it was.
    """
    hostile = "\x1b[31m\x7f\x9b\u202e\udc80\n"

    say_json({"name": hostile})

    printed = capsys.readouterr().out
    assert printed.rstrip("\n").isprintable()
    assert printed.isascii()
    assert json.loads(printed) == {"name": hostile}


def test_a_pipe_gets_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Without a terminal a table is aligned text: no colour, no frame, `-` for nothing.
    """
    say_table(("id", "pid"), [("alpha", 1), ("b\x1b[31m", None)])

    assert capsys.readouterr().out == "id         pid\nalpha      1\nb\\x1b[31m  -\n"


def test_a_terminal_gets_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    On a terminal, too, a plugin's markup and escapes are shown, not obeyed.
    """
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")

    say_table(("id", "state"), [("[red]x[/red]\x1b[31m", "ready")])

    assert r"[red]x[/red]\x1b[31m" in capsys.readouterr().out


def test_figures_read_as_people_write_them() -> None:
    """
    Units are written out, and an unknown figure stays unknown.
    """
    assert (megabytes(1_900_000), seconds(12.345), duration(3725)) == (
        "1.9 MB",
        "12.35 s",
        "1:02:05",
    )
    assert (megabytes(None), seconds(None), duration(None)) == (None, None, None)
