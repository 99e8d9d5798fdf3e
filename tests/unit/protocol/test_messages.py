import signal

import pytest

from protocol.messages import (
    FROM_CLIENT,
    FROM_WORKER,
    TO_CLIENT,
    TO_NODE,
    TO_WORKER,
    Answer,
    Cause,
    ClientDetails,
    EndWorker,
    Offer,
    PluginSource,
    Refusal,
    SpawnWorker,
    StopPlugin,
)


class TestCause:
    @pytest.mark.parametrize("number", signal.Signals)
    def test_signals_have_linuxs_names(self, number: signal.Signals) -> None:
        """
        A death by signal is told by the name that people know.
        """
        if number < signal.SIGRTMIN:
            assert str(Cause(kind="signal", code=number)) == number.name

    @pytest.mark.parametrize(
        ("cause", "text"),
        [
            (Cause(kind="exit", code=3), "exit status 3"),
            (Cause(kind="signal", code=50), "signal 50"),
            (Cause(kind="unknown"), "unknown cause"),
            (Cause(kind="magic"), "unknown cause"),
            (Cause(kind="signal", code=9, rule="start timeout"), "SIGKILL (start timeout)"),
        ],
    )
    def test_a_death_is_told_in_a_few_words(self, cause: Cause, text: str) -> None:
        """
        A cause says how the process ended and which rule of ours ended it.
        """
        assert str(cause) == text


class TestMessages:
    def test_nested_messages_travel(self) -> None:
        """
        A message with others inside arrives whole.
        """
        source = PluginSource(root="/p", entry="a:B")
        spawn = SpawnWorker(incarnation=1, plugin_id="a", source=source, data_dir="/d")
        offer = Offer(service="math", methods=("add", "sub"), idempotent=())
        details = ClientDetails(name="app", pid=1, incarnation=0, offers=(offer,))

        assert TO_NODE.decode(TO_NODE.encode(spawn)) == spawn
        assert FROM_CLIENT.decode(FROM_CLIENT.encode(details)) == details

    def test_both_sides_share_answers(self) -> None:
        """
        Workers and clients are answered with the same two messages.
        """
        for message in (Answer("1", {"a": [1]}), Refusal("1", "UsageError", ("no",))):
            assert TO_WORKER.decode(TO_WORKER.encode(message)) == message
            assert TO_CLIENT.decode(TO_CLIENT.encode(message)) == message

    def test_a_conversation_has_its_own_messages_only(self) -> None:
        """
        What one side may say, another may not even encode.
        """
        with pytest.raises(KeyError):
            FROM_WORKER.encode(StopPlugin())  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            TO_WORKER.encode(EndWorker(1, "no", force=True))  # type: ignore[arg-type]
