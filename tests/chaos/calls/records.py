"""Write down each call and each execution as it happens, in processes that may die at any moment.

One file for each life of a process, one line for each thing, one `write` for each line: what a
process has said is there however it ends. Fields are separated by tabs:

    sent CALL FORM AT TIMEOUT     before a call is made
    came CALL OUTCOME AT          its outcome
    ran CALL                      first of all in the method that was called, long before its answer
    left                          last of all, by those who end in order

Copied into plugins' folders, so it imports nothing of the tests.
"""

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

OK = "OK"

FRAMES = 6


class Log:
    """One life's own file."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.life = f"{owner}.{os.getpid()}.{token_hex(4)}"
        flags = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
        self._file = os.open(folder / f"{self.life}.log", flags, 0o600)

    def ran(self, call: str) -> None:
        """A call is carried out here."""
        self._write("ran", call)

    def left(self) -> None:
        """Nothing more is done in this life."""
        self._write("left")

    @contextmanager
    def sent(self, call: str, form: str, timeout: float) -> Iterator[None]:
        """Note a call before it is made, and what comes of it."""
        self._write("sent", call, form, f"{time.monotonic():.6f}", f"{timeout:g}")
        outcome = OK
        try:
            yield
        except Exception as error:
            outcome = _name(error)
            raise
        finally:
            self._write("came", call, outcome, f"{time.monotonic():.6f}")

    def _write(self, *fields: str) -> None:
        os.write(self._file, ("\t".join(fields) + "\n").encode())


def _name(error: Exception) -> str:
    """Name an outcome; what a callee's own calls came to is named behind a colon.

    What is no error of the host's is none that anybody expects, so its place is named with it.
    """
    if inner := getattr(error, "type_name", ""):
        return f"RemoteError:{inner}"
    if hasattr(error, "fields"):
        return type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = " < ".join(f"{Path(it.filename).name}:{it.lineno}" for it in reversed(frames))
    return f"{error!r} at {places}".replace("\t", " ").replace("\n", " ")
