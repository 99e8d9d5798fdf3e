"""A daemon that this command has just started, as its parent sees it."""

import subprocess


class Started:
    """Watch one child process; the child outlives this command."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.pid = process.pid

    def wait_ended(self, timeout: float) -> int | None:
        """Wait up to so many seconds for its end; give its exit status, None while it runs."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Ask it to end; harmless when it has."""
        self._process.terminate()
