import signal
from math import inf

import pytest

from protocol.codec import pack_value
from protocol.errors import RemoteProtocolError
from protocol.messages import (
    FROM_CLIENT,
    FROM_ENDPOINT,
    FROM_NODE,
    FROM_WORKER,
    TO_CLIENT,
    TO_ENDPOINT,
    TO_NODE,
    TO_WORKER,
    Answer,
    CallbacksRan,
    Cause,
    ClientDetails,
    EndWorker,
    Offer,
    PluginSource,
    Published,
    Refusal,
    Reported,
    Sample,
    Samples,
    SpawnWorker,
    StopPlugin,
    Subscribe,
    Subscribed,
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

    def test_only_a_kill_that_nobody_asked_for_may_be_anothers(self) -> None:
        """
        Of a death by our own rule, or by another signal, the kernel need not be asked.
        """
        assert Cause(kind="signal", code=9).is_unasked_kill
        assert not Cause(kind="signal", code=9, rule="hang").is_unasked_kill
        assert not Cause(kind="signal", code=11).is_unasked_kill
        assert not Cause(kind="exit", code=9).is_unasked_kill


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

    @pytest.mark.parametrize("since", [inf, -inf, 12.5])
    def test_a_subscriber_asks_for_the_past(self, since: float) -> None:
        """
        By number or by time; the answer that it holds brings the runs, as the hub kept them.
        """
        asked, answer = Subscribe("1", "Trainer.*", 5, since), Subscribed("1", (b"one", b"two"))

        assert FROM_ENDPOINT.decode(FROM_ENDPOINT.encode(asked)) == asked
        assert TO_ENDPOINT.decode(TO_ENDPOINT.encode(answer)) == answer

    def test_a_publisher_is_told_what_was_taken_and_what_became_of_it(self) -> None:
        """
        Events and bytes; and by its own number, callbacks and their failures.
        """
        for message in (Published(512, 10_240), Reported(7, 2, 1, (("logger", "ValueError: no"),))):
            assert TO_ENDPOINT.decode(TO_ENDPOINT.encode(message)) == message

    def test_a_subscriber_tells_what_its_callbacks_did(self) -> None:
        """
        Of whose event, by its publisher's number.
        """
        ran = CallbacksRan(3, 7, 2, 1, ("ValueError: no",))

        assert FROM_ENDPOINT.decode(FROM_ENDPOINT.encode(ran)) == ran

    def test_a_sample_says_how_far_behind_a_worker_is(self) -> None:
        """
        Events that it has not run and events that it never got, beside its other figures.
        """
        sample = Sample(
            incarnation=3, memory=1, cpu_s=0.5, threads=2, calls=4, errors=0, lag=512, missed=9
        )
        told = Samples("1", (sample,))

        assert FROM_NODE.decode(FROM_NODE.encode(told)) == told

    @pytest.mark.parametrize(
        "parts",
        [
            [14, 7, 2, 1],
            [14, 7, 2, 1, [["logger", 5]]],
            [14, 7, 2, 1, ["logger"]],
            [14, True, 2, 1, []],
        ],
        ids=repr,
    )
    def test_a_report_of_another_shape_is_refused(self, parts: object) -> None:
        """
        Whoever builds failures from it gets texts.
        """
        with pytest.raises(RemoteProtocolError):
            TO_ENDPOINT.decode(pack_value(parts))

    def test_a_conversation_has_its_own_messages_only(self) -> None:
        """
        What one side may say, another may not even encode.
        """
        with pytest.raises(KeyError):
            FROM_WORKER.encode(StopPlugin())  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            TO_WORKER.encode(EndWorker(1, "no", force=True))  # type: ignore[arg-type]
