"""Where attacks happen: decoys of all that a plugin might be after, watched from outside.

A user's home with secrets, sockets with and without a name, a bystander. `harm` says what of it is
no longer as it was.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import psutil

SECRET: Final = "a secret that nobody was told"
BACKLOG: Final = 4096


class Scene:
    """The decoys; live as long as one profile is tried."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.home = folder / "home"
        (self.home / ".ssh").mkdir(parents=True)
        self._closing = closing
        self._files = (
            self.home / ".ssh" / "id_ed25519",
            self.home / ".profile",
            self.home / "granted-beside",
        )
        self.granted = self.home / "granted"
        self.granted.mkdir()
        (self.granted / "link").symlink_to(self._files[0])
        self._bystander: subprocess.Popen[bytes] | None = None
        self.tcp = self._listen(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self.other_tcp = self._listen(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self.udp = self._bind(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self.abstract = f"\0hostile-{uuid4()}"
        self._listen(socket.AF_UNIX, self.abstract)
        self.agent, self.journal = self.home / "agent.sock", self.home / "journal.sock"
        fd, shared = tempfile.mkstemp(prefix="hostile-", dir="/dev/shm")
        os.close(fd)
        self.shared = Path(shared)
        closing.callback(lambda: self.shared.unlink(missing_ok=True))
        closing.callback(self._end_bystander)
        self._named = (self._listen, self.agent), (self._bind, self.journal)
        self._seen: dict[Path, tuple[int, ...]] = {}

    def set_up(self) -> None:
        """Put everything in its place again, whatever an attack that was let through did to it."""
        kept = {*self._files, self.home / ".ssh", self.granted}
        for path in self.home.iterdir():
            if path not in kept and not path.is_socket():
                path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()
        for file in self._files:
            if not file.exists() or file.read_text() != SECRET or file.is_symlink():
                file.unlink(missing_ok=True)
                file.write_text(SECRET)
            file.chmod(0o600)
            os.setxattr(file, "user.origin", SECRET.encode())
        (self.home / "link").symlink_to(self._files[0])
        (self.granted / "open").write_text("open")
        (self.granted / "new").unlink(missing_ok=True)
        self.shared.write_text(SECRET)
        for make, path in self._named:
            if not path.is_socket():
                make(socket.AF_UNIX, str(path))
        self._seen = self._looks()

    @property
    def key(self) -> Path:
        """A secret of the user's."""
        return self._files[0]

    def told(self) -> dict[str, object]:
        """Give what an attacker is told of it."""
        return {
            "home": str(self.home),
            "secret": SECRET,
            "key": str(self.key),
            "profile": str(self._files[1]),
            "link": str(self.home / "link"),
            "agent": str(self.agent),
            "journal": str(self.journal),
            "abstract": self.abstract,
            "tcp": self.tcp,
            "other_tcp": self.other_tcp,
            "udp": self.udp,
            "granted": str(self.granted),
            "shared": str(self.shared),
            "bystander": self.bystander.pid,
        }

    @property
    def bystander(self) -> subprocess.Popen[bytes]:
        """A process that does nothing; another one when the last has been killed."""
        if self._bystander is not None and self._bystander.poll() is not None:
            self._bystander.communicate()
            self._bystander = None
        if self._bystander is None:
            code = "import sys; sys.stdin.read()"
            self._bystander = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
            self._was = manners(self._bystander.pid)
        return self._bystander

    def harm(self) -> list[str]:
        """Say what is no longer as it was set up."""
        found = []
        if self._bystander is not None:
            if self._bystander.poll() is not None:
                found.append(f"the bystander died: {self._bystander.returncode}")
            elif manners(self._bystander.pid) != self._was:
                found.append(f"the bystander is another: {manners(self._bystander.pid)}")
        looks = self._looks()
        changed = {path for path in looks | self._seen if looks.get(path) != self._seen.get(path)}
        return [*found, *(f"{path} is not as it was" for path in sorted(changed))]

    def _looks(self) -> dict[Path, tuple[int, ...]]:
        """Give what can be seen of each file: owner, mode, size, time, attributes."""
        looks: dict[Path, tuple[int, ...]] = {}
        for path in (*self.home.rglob("*"), self.shared):
            status = path.lstat()
            words = hash(path.read_text()) if path.is_file() else 0
            named = len(os.listxattr(path, follow_symlinks=False))
            looks[path] = (status.st_uid, status.st_mode, status.st_mtime_ns, words, named)
        return looks

    def _listen(self, family: int, address: object) -> socket.socket:
        end = self._closing.enter_context(socket.socket(family))
        end.bind(address)  # type: ignore[arg-type]
        end.listen(BACKLOG)
        return end

    def _bind(self, family: int, address: object) -> socket.socket:
        end = self._closing.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        end.bind(address)  # type: ignore[arg-type]
        return end

    def _end_bystander(self) -> None:
        if self._bystander is not None:
            self._bystander.send_signal(signal.SIGKILL)
            self._bystander.communicate()


def manners(pid: int) -> tuple[object, ...]:
    """Say how a process is run: how nice, where, within which limits, traced by whom."""
    process = psutil.Process(pid)
    limits = [resource.prlimit(pid, kind) for kind in range(16)]
    tracer = Path(f"/proc/{pid}/status").read_text().partition("TracerPid:\t")[2].split()[0]
    scheduler = os.sched_getscheduler(pid)
    return (
        process.nice(),
        tuple(process.cpu_affinity()),
        limits,
        process.ionice(),
        scheduler,
        tracer,
    )


@contextmanager
def new_scene(folder: Path) -> Iterator[Scene]:
    """Set a scene up in a folder, and take it down."""
    with ExitStack() as closing:
        yield Scene(folder, closing)
