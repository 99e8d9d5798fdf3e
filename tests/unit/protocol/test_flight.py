import os

from protocol.flight import SIZE, FlightWriter, read_counters


class TestFlight:
    def test_what_is_counted_is_read(self) -> None:
        """
        The node reads calls and errors as the worker counts them, without a message.
        """
        fd = os.memfd_create("flight")
        os.truncate(fd, SIZE)
        writer = FlightWriter(fd)
        assert read_counters(fd) == (0, 0)

        writer.count_call()
        writer.count_call()
        writer.count_error()

        assert read_counters(fd) == (2, 1)
        os.close(fd)

    def test_a_lie_is_kept_within_limits(self) -> None:
        """
        A worker that writes nonsense makes no number that others cannot hold.
        """
        fd = os.memfd_create("flight")
        os.write(fd, b"\xff" * SIZE)

        assert read_counters(fd) == (1 << 53, 1 << 53)
        os.close(fd)
