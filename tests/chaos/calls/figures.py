"""Show an account of calls."""

from statistics import quantiles

from tests.chaos.calls.ledger import Account
from tests.chaos.table import Row


def rows(account: Account) -> list[Row]:
    """What is printed of it."""
    answered = account.outcomes["OK"]
    late_ms = [late_s * 1e3 for late_s in account.late_s]
    p99_ms = quantiles(late_ms, n=100, method="inclusive")[-1] if len(late_ms) > 1 else 0.0
    return [
        Row(what="calls", found=account.calls),
        *(Row(what=f"  {name}", found=count) for name, count in account.outcomes.most_common()),
        Row(what="  unknown: their callers were killed", found=account.unknown),
        Row(what="answered, but never carried out", found=account.lost, of=answered, most=0),
        Row(what="carried out twice", found=account.doubled, of=account.runs, most=0),
        Row(what="refused, but carried out", found=account.ran_refused, of=account.runs, most=0),
        Row(what="without an outcome", found=account.unresolved, of=account.calls, most=0),
        Row(what="outcomes of no known kind", found=account.unexpected, of=account.calls, most=0),
        Row(what="outcome after its deadline, p99", found=p99_ms, unit="ms", of=len(late_ms)),
        Row(what="  later than 50 ms", found=account.late, of=account.calls),
    ]
