"""The ledger finds each kind of fault among honest calls, and finds none where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.calls.ledger import Account, LedgerError, Life, balance
from tests.chaos.calls.records import Log


def call(
    name: str, outcome: str = "OK", *, form: str = "plain", took: float = 0.01, timeout: float = 1.0
) -> list[str]:
    """Give what a caller writes; nothing of an outcome where that is empty."""
    sent = f"sent\t{name}\t{form}\t100.0\t{timeout}\n"
    return [sent, *([f"came\t{name}\t{outcome}\t{100.0 + took}\n"] if outcome else [])]


def ran(*names: str) -> list[str]:
    """Give what a callee writes."""
    return [f"ran\t{name}\n" for name in names]


def left(*lines: list[str]) -> Life:
    """A life that ended in order."""
    return Life("one", [*(it for some in lines for it in some), "left\n"], was_killed=False)


def killed(*lines: list[str]) -> Life:
    """A life that was killed."""
    return Life("another", [it for some in lines for it in some], was_killed=True)


def honest() -> list[Life]:
    """Every outcome that there may be, and everything that is allowed."""
    caller = left(
        call("answered"),
        call("again", form="again"),
        call("died-before", "WorkerLost"),
        call("died-after", "WorkerLost"),
        call("nobody", "ServiceUnavailable"),
        call("too-slow", "DeadlineExceeded", took=1.02),
        call("outer", "RemoteError:WorkerLost"),
        call("lost-again", "ServiceUnavailable", form="again"),
    )
    lost = killed(call("own-death", ""), call("own-death-after", ""), call("own-answer"))
    callee = left(ran("answered", "again", "again", "again", "too-slow", "outer", "lost-again"))
    dead = killed(ran("died-after", "own-death-after", "own-answer"))
    return [caller, lost, callee, dead]


def test_what_is_as_promised_is_found_to_be() -> None:
    """Deaths leave their outcomes, and nothing is wrong."""
    account = balance(honest())
    assert account.wrong == []
    assert (account.calls, account.runs, account.unknown, account.late) == (9, 10, 2, 0)
    assert account.outcomes["OK"] == 3
    assert [round(late_s, 3) for late_s in account.late_s] == [0.02]


FAULTS: dict[str, tuple[list[Life], str]] = {
    "answered, and carried out by nobody": ([left(call("x"))], "lost"),
    "carried out twice by one": ([left(call("x")), left(ran("x", "x"))], "doubled"),
    "carried out twice by two": (
        [left(call("x")), killed(ran("x")), left(ran("x"))],
        "doubled",
    ),
    "twice, and its caller knows of neither": (
        [left(call("x", "WorkerLost")), killed(ran("x")), killed(ran("x"))],
        "doubled",
    ),
    "twice, for a caller that has died": (
        [killed(call("x", "")), left(ran("x", "x"))],
        "doubled",
    ),
    "made again too often": (
        [left(call("x", form="again")), left(ran("x", "x", "x", "x"))],
        "doubled",
    ),
    "carried out though refused": (
        [left(call("x", "ServiceUnavailable")), left(ran("x"))],
        "ran_refused",
    ),
    "without an outcome": ([left(call("x", ""))], "unresolved"),
    "with an outcome that nobody waited for": (
        [left(call("x", "DeadlineExceeded", took=6.1))],
        "unresolved",
    ),
    "an answer that is another call's": (
        [left(call("x", "Misanswered")), left(ran("x"))],
        "unexpected",
    ),
    "an error that no death explains": (
        [left(call("x", "RemoteProtocolError"))],
        "unexpected",
    ),
    "a death that nobody caused": ([Life("x", [], was_killed=False)], "vanished"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    """Among honest calls, and nothing else is called wrong."""
    lives, what = FAULTS[fault]
    account = balance([*honest(), *lives])
    ((found, which),) = account.wrong
    assert found == what
    assert which.startswith("x")
    assert getattr(account, what) == 1


def test_a_late_outcome_is_counted() -> None:
    """More than 50 ms after its deadline: a figure, as the machine may have been busy."""
    account = balance([left(call("x", "DeadlineExceeded", took=1.06))])
    assert account.late == 1
    assert account.wrong == []


def test_a_torn_line_is_the_last_word_of_a_killed_one() -> None:
    """Of nobody else, and nowhere else."""
    torn = call("x", "")[0][:9]
    assert balance([killed(call("y"), [torn]), left(ran("y"))]).wrong == []
    for broken in (Life("x", [torn], was_killed=False), killed([torn], call("y"))):
        with pytest.raises(LedgerError):
            balance([broken])


@pytest.mark.parametrize(
    "lives",
    [
        [left(ran("never-made"))],
        [left(call("x")), left(call("x"))],
        [left(call("x"), call("x")[1:])],
        [left(["nonsense\n"])],
    ],
)
def test_what_no_log_can_say_is_refused(lives: list[Life]) -> None:
    """A harness that is wrong must not pass for a host that is right."""
    with pytest.raises(LedgerError):
        balance(lives)


def fail(kind: Callable[[], Exception]) -> None:
    """Raise it."""
    raise kind()


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Calls with their outcomes, executions, and the end."""
    log = Log(tmp_path, "me")
    with log.sent("right", "plain", 1.0):
        log.ran("right")
    with pytest.raises(ZeroDivisionError), log.sent("wrong", "plain", 1.0):
        fail(ZeroDivisionError)
    log.left()
    (file,) = tmp_path.iterdir()
    assert file.name == f"{log.life}.log"
    account = balance([Life("x", file.read_text().splitlines(keepends=True), was_killed=False)])
    right, broken = sorted(account.outcomes)
    assert right == "OK"
    assert broken.startswith("ZeroDivisionError() at test_ledger.py:")
    assert dict(account.wrong).keys() == {"unexpected"}
    assert isinstance(account, Account)
