import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import MAX_MESSAGE
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.packets import MAX_PACKET, Joiner, Kind, cut

KINDS = st.sampled_from(Kind)
LENGTHS = st.integers(0, 100) | st.sampled_from(
    [MAX_PACKET - 5, MAX_PACKET - 4, 2 * (MAX_PACKET - 5), MAX_MESSAGE - 1, MAX_MESSAGE]
)
HEADS = st.builds(
    lambda kind, part, total, body: (
        kind + part.to_bytes(2, "big") + total.to_bytes(2, "big") + body
    ),
    st.sampled_from([b"n", b"r", b"f", b"e", b"x"]),
    st.integers(0, 3),
    st.integers(0, 4) | st.just(65_535),
    st.binary(max_size=4),
)


class TestPackets:
    @given(st.lists(st.tuples(KINDS, LENGTHS), max_size=3))
    def test_every_cut_is_joined_again(self, messages: list[tuple[Kind, int]]) -> None:
        """
        Messages of any length, one after the other, arrive whole and in order.
        """
        bodies = [(kind, bytes([length % 251]) * length) for kind, length in messages]
        joiner = Joiner()
        packets = [packet for kind, body in bodies for packet in cut(kind, body)]
        joined = [joiner.feed(packet) for packet in packets]

        assert all(len(packet) <= MAX_PACKET for packet in packets)
        assert [message for message in joined if message is not None] == bodies

    @given(st.lists(HEADS | st.binary(max_size=20), max_size=8))
    def test_nonsense_is_the_senders_fault(self, packets: list[bytes]) -> None:
        """
        Packets are joined or they are the sender's fault, and nothing else.
        """
        joiner = Joiner()
        try:
            for packet in packets:
                joiner.feed(packet)
        except RemoteProtocolError:
            return

    def test_a_long_message_is_not_cut(self) -> None:
        """
        What is longer than the limit is refused by the sender.
        """
        with pytest.raises(LocalProtocolError):
            cut(Kind.NODE, bytes(MAX_MESSAGE + 1))

    @pytest.mark.parametrize(
        "packet",
        [
            b"",
            b"n\0\0\0",
            bytes(MAX_PACKET + 1),
            b"x\0\0\0\1",
            b"n\0\0\0\0",
            b"n\0\1\0\2",
            b"n\0\0\xff\xff",
        ],
        ids=lambda packet: repr(packet[:8]),
    )
    def test_what_opens_no_message_is_refused(self, packet: bytes) -> None:
        """
        Wrong sizes, kinds, parts and totals end the connection.
        """
        with pytest.raises(RemoteProtocolError):
            Joiner().feed(packet)

    @pytest.mark.parametrize("second", [b"r\0\1\0\2", b"n\0\0\0\1", b"n\0\0\0\2", b"n\0\1\0\3"])
    def test_a_message_is_not_interrupted(self, second: bytes) -> None:
        """
        Once a message has begun, only its next part is taken.
        """
        joiner = Joiner()
        joiner.feed(b"n\0\0\0\2")
        with pytest.raises(RemoteProtocolError, match="out of order"):
            joiner.feed(second)

    def test_parts_do_not_add_up_to_more_than_a_message(self) -> None:
        """
        As many full parts as the limit allows, and one byte more, are refused.
        """
        joiner = Joiner()
        total = -(-MAX_MESSAGE // (MAX_PACKET - 5))
        packets = [
            b"n" + part.to_bytes(2, "big") + total.to_bytes(2, "big") + bytes(MAX_PACKET - 5)
            for part in range(total)
        ]
        for packet in packets[:-1]:
            joiner.feed(packet)

        with pytest.raises(RemoteProtocolError, match="the limit is"):
            joiner.feed(packets[-1])
