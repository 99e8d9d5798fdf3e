import pytest

from protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    LoadFailed,
    LocalProtocolError,
    ManifestError,
    NoDaemon,
    Overloaded,
    PermissionDenied,
    RemoteError,
    RemoteProtocolError,
    ServiceUnavailable,
    SpiralHostError,
    UsageError,
    WorkerLost,
    from_wire,
    to_wire,
)

TRAVELLERS = [
    UsageError("no such plugin"),
    NoDaemon("/run/x"),
    NoDaemon("/run/x", "refused"),
    ManifestError("greeter", "version", "is missing"),
    LoadFailed("greeter", "import raised", "Traceback"),
    DeadlineExceeded("math.add", 30.0),
    Cancelled("math.add"),
    Overloaded("math", 1.5),
    PermissionDenied("greeter", "network"),
    ServiceUnavailable("math", "nobody offers it"),
    WorkerLost("math", "SIGSEGV"),
    RemoteError("math.div", "ZeroDivisionError", "division by zero", "Traceback"),
    LocalProtocolError("too long"),
    RemoteProtocolError("garbage"),
]


class TestErrors:
    @pytest.mark.parametrize("error", TRAVELLERS, ids=repr)
    def test_an_error_travels_whole(self, error: SpiralHostError) -> None:
        """
        What arrives is of the same class, with the same subject and the same words.
        """
        arrived = from_wire(*to_wire(error))

        assert type(arrived) is type(error)
        assert str(arrived) == str(error)
        assert {**vars(arrived)} == {**vars(error)}

    @pytest.mark.parametrize("error", TRAVELLERS, ids=repr)
    def test_an_error_is_said_in_one_line(self, error: SpiralHostError) -> None:
        """
        Every error tells people what is wrong in one line.
        """
        assert str(error)
        assert "\n" not in str(error)

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [("Exploit", ()), ("RemoteError", ("one",)), ("Overloaded", ("math", "soon")), ("", ())],
    )
    def test_an_unknown_error_is_the_senders_fault(
        self, kind: str, fields: tuple[str, ...]
    ) -> None:
        """
        A kind that nobody knows, or with fields it does not have, breaks the protocol.
        """
        assert type(from_wire(kind, fields)) is RemoteProtocolError

    def test_half_a_character_travels_escaped(self) -> None:
        """
        A message with a lone surrogate, as file names give them, does not stop the error.
        """
        _, fields = to_wire(RemoteError("fs.open", "OSError", "no file \udcff"))

        assert fields[2] == r"no file \udcff"
