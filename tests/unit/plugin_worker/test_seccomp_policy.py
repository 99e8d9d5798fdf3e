import struct
from collections.abc import Callable

import pytest

from plugin_worker.sandbox.policy import (
    ALLOWED,
    ARGUMENT_RULES,
    CHANGES,
    CURES,
    FCNTL_ALLOWED,
    FCNTL_REFUSED,
    LAYER_NAMES,
    OWN_PID,
    PRCTL_ALLOWED,
    PRCTL_REFUSED,
    PRETENDED,
    REFUSED,
    SOCKET_OPTIONS,
)
from plugin_worker.sandbox.seccomp import patch_pid

BREAKOUTS = {
    *("socket", "connect", "bind", "execve", "fork", "ptrace", "process_vm_readv", "unshare"),
    *("mount", "io_uring_setup", "bpf", "memfd_create", "chmod", "seccomp", "setns"),
}
EQUAL = 0x15
LOAD = 0x20


def instruction(code: int, constant: int) -> bytes:
    return struct.pack("=HBBI", code, 1, 0, constant)


class TestTables:
    def test_no_call_is_in_two_tables(self) -> None:
        """
        A call is allowed, refused, pretended or judged by its arguments: one of them.
        """
        by_argument = {rule.name for rule in ARGUMENT_RULES}
        tables = [ALLOWED, REFUSED, PRETENDED, by_argument]
        assert len(frozenset().union(*tables)) == sum(len(table) for table in tables)

    @pytest.mark.parametrize(
        ("allowed", "refused"), [(PRCTL_ALLOWED, PRCTL_REFUSED), (FCNTL_ALLOWED, FCNTL_REFUSED)]
    )
    def test_no_value_is_both_allowed_and_refused(
        self, allowed: tuple[int, ...], refused: tuple[int, ...]
    ) -> None:
        """
        The order of rules decides nothing.
        """
        assert not set(allowed) & set(refused)

    def test_what_must_never_be_allowed(self) -> None:
        """
        The calls that undo another layer or reach another process are refused by name.
        """
        assert BREAKOUTS <= REFUSED

    def test_hidden_flags_are_not_named_at_all(self) -> None:
        """
        clone3 keeps its flags behind a pointer: it does not exist, and clone is judged instead.
        """
        assert "clone3" not in ALLOWED | REFUSED
        assert "clone" in {rule.name for rule in ARGUMENT_RULES}

    def test_every_layer_has_a_cure(self) -> None:
        """
        Whoever is told that a layer is missing is told what to do.
        """
        assert set(CURES) == set(LAYER_NAMES)
        assert all(CURES.values())


class TestChanges:
    def test_no_two_permissions_change_the_same_call(self) -> None:
        """
        So every set of them has one filter, whatever the order.
        """
        names = [
            name
            for change in CHANGES.values()
            for name in change.allowed | {rule.name for rule in change.rules}
        ]
        assert len(names) == len(set(names))

    def test_a_change_allows_a_call_or_judges_it(self) -> None:
        """
        Not both: the one would make the other mean nothing.
        """
        for change in CHANGES.values():
            assert not change.allowed & {rule.name for rule in change.rules}

    def test_what_no_permission_gives(self) -> None:
        """
        What undoes another layer or reaches another process stays refused with all of them.
        """
        given = {
            "network": {"socket", "connect"},
            "subprocess": {"fork", "execve"},
            "gpu": set(),
        }
        for word, change in CHANGES.items():
            changed = change.allowed | {rule.name for rule in change.rules}
            assert changed & BREAKOUTS == given[word]

    @pytest.mark.parametrize("option", [23, 30, 31, 33])
    def test_fast_open_and_other_protocols_are_no_options(self, option: int) -> None:
        """
        A TCP socket stays one, and connects when it is told to connect.
        """
        assert option not in SOCKET_OPTIONS[6]

    def test_words_are_compared_as_the_kernel_compares_them(self) -> None:
        """
        It looks at the low half of an int: a rule that looked at all of it could be walked around.
        """
        for change in CHANGES.values():
            for rule in change.rules:
                assert all(condition.op == "masked" for condition in rule.when), rule


class TestPatchPid:
    def test_it_replaces_the_sentinel_in_comparisons_only(self) -> None:
        """
        Other instructions keep their constants, even where the bytes look the same.
        """
        program = b"".join(
            [
                instruction(LOAD, OWN_PID),
                instruction(EQUAL, OWN_PID),
                instruction(EQUAL, 7),
                instruction(EQUAL, OWN_PID),
            ]
        )
        assert patch_pid(program, 1234) == b"".join(
            [
                instruction(LOAD, OWN_PID),
                instruction(EQUAL, 1234),
                instruction(EQUAL, 7),
                instruction(EQUAL, 1234),
            ]
        )

    def test_bytes_across_two_instructions_are_no_sentinel(self) -> None:
        """
        Only the constant's own place counts.
        """
        looks_like_it = struct.pack("=I", OWN_PID)
        program = instruction(EQUAL, OWN_PID) + b"\x15\x00" + looks_like_it + b"\x00\x00"
        assert patch_pid(program, 5)[8:] == program[8:]

    @pytest.mark.parametrize("make", [bytes, lambda: instruction(EQUAL, 7)])
    def test_a_program_without_a_sentinel_is_none_of_ours(self, make: Callable[[], bytes]) -> None:
        """
        It would let every kill through or none; nobody runs under it.
        """
        with pytest.raises(ValueError, match="no place for a pid"):
            patch_pid(make(), 1234)
