"""What plugins are made of runs unchanged under `standard`: real libraries, in a real worker."""

import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spiral_host import Host
from tests.hosts import new_run


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host with a plugin that runs the code that it is given."""
    with new_run() as run:
        host = run.embed("snoop")
        if missing := host.status()["sandbox"]["missing"]:
            pytest.skip(f"this machine lacks {missing}")
        yield host


@pytest.fixture
def run_code(host: Host) -> Callable[[str], Any]:
    """Run code in the plugin's worker; give the value of `answer`."""
    snoop = host.get_service("snoop")
    pid = host.get("snoop").pid

    def run(code: str) -> object:
        answer = snoop.attempt(textwrap.dedent(code), timeout=60)
        assert host.get("snoop").pid == pid, "its worker has ended"
        return answer

    return run


@pytest.fixture
def numpy() -> None:
    """Skip where numpy is not installed; the host itself does without."""
    pytest.importorskip("numpy")


@pytest.mark.usefixtures("numpy")
class TestArrays:
    def test_linear_algebra(self, run_code: Callable[[str], Any]) -> None:
        """numpy solves, decomposes and transforms, in as many threads as it likes."""
        assert run_code("""
            import numpy as np
            rng = np.random.default_rng(0)
            a, b = rng.normal(size=(300, 300)), rng.normal(size=300)
            x = np.linalg.solve(a, b)
            u, s, v = np.linalg.svd(a[:100, :100])
            back = np.fft.irfft(np.fft.rfft(b), 300)
            answer = [bool(np.allclose(a @ x, b)), bool(np.allclose(u * s @ v, a[:100, :100])),
                      bool(np.allclose(back, b)), bool(np.isfinite(np.linalg.eigvals(a)).all())]
        """) == [True, True, True, True]

    def test_files_of_arrays(self, run_code: Callable[[str], Any]) -> None:
        """They are written to the plugin's folder, read back, and mapped."""
        assert run_code("""
            import numpy as np
            path = ctx.data_dir / "array.npy"
            np.save(path, np.arange(100_000))
            mapped = np.lib.format.open_memmap(path, mode="r+")
            mapped[7] = -1
            mapped.flush()
            np.savez_compressed(ctx.data_dir / "arrays.npz", a=np.ones(10), b=np.zeros(3))
            again = np.load(ctx.data_dir / "arrays.npz")
            answer = [int(np.load(path)[7]), int(np.load(path, mmap_mode="r")[99_999]),
                      sorted(again), float(again["a"].sum())]
        """) == [-1, 99_999, ["a", "b"], 10.0]


class TestSqlite:
    def test_a_database_in_its_folder(self, run_code: Callable[[str], Any]) -> None:
        """With transactions, an index and a second connection that waits for its lock."""
        assert run_code("""
            import sqlite3
            path = ctx.data_dir / "plain.db"
            with sqlite3.connect(path) as one:
                one.execute("create table t (a integer primary key, b text)")
                one.executemany("insert into t values (?, ?)", [(n, str(n)) for n in range(1000)])
                one.execute("create index i on t (b)")
            two = sqlite3.connect(path)
            answer = [two.execute("select count(*) from t where b like '9%'").fetchone()[0],
                      two.execute("pragma integrity_check").fetchone()[0]]
        """) == [111, "ok"]

    def test_a_write_ahead_log(self, run_code: Callable[[str], Any]) -> None:
        """It takes a file of shared memory, and locks in it."""
        assert run_code("""
            import sqlite3
            path = ctx.data_dir / "wal.db"
            one = sqlite3.connect(path, isolation_level=None)
            mode = one.execute("pragma journal_mode=wal").fetchone()[0]
            one.execute("create table t (a)")
            two = sqlite3.connect(path, isolation_level=None)
            two.execute("begin")
            before = two.execute("select count(*) from t").fetchone()[0]
            one.execute("insert into t values (1)")  # beside a reader, as only a log allows
            during = two.execute("select count(*) from t").fetchone()[0]
            two.execute("commit")
            after = two.execute("select count(*) from t").fetchone()[0]
            files = sorted(p.name for p in ctx.data_dir.glob("wal.db*"))
            one.execute("pragma wal_checkpoint(truncate)")
            answer = [mode, before, during, after, files]
        """) == ["wal", 0, 0, 1, ["wal.db", "wal.db-shm", "wal.db-wal"]]

    def test_in_memory_and_to_a_backup(self, run_code: Callable[[str], Any]) -> None:
        """One without a file, copied into one with a file; large sorts have room in its own tmp."""
        assert run_code("""
            import sqlite3
            memory = sqlite3.connect(":memory:")
            memory.execute("create table t as with recursive n(i) as "
                           "(select 1 union all select i + 1 from n where i < 50000) "
                           "select i from n")
            memory.execute("pragma temp_store=file")
            top = memory.execute("select i from t order by -i limit 1").fetchone()[0]
            copy = sqlite3.connect(ctx.data_dir / "copy.db")
            memory.commit()
            memory.backup(copy)
            answer = [top, copy.execute("select count(*) from t").fetchone()[0]]
        """) == [50_000, 50_000]


class TestThreads:
    def test_pools_locks_and_timers(self, run_code: Callable[[str], Any]) -> None:
        """Threads of every kind that the library has."""
        assert run_code("""
            import queue, threading, time
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(16) as pool:
                squares = sum(pool.map(lambda n: n * n, range(1000)))
            lines, barrier = queue.Queue(), threading.Barrier(4)
            def work(n):
                barrier.wait(10)
                lines.put(n)
            threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            for thread in threads: thread.start()
            for thread in threads: thread.join(10)
            fired = threading.Event()
            threading.Timer(0.01, fired.set).start()
            local = threading.local()
            local.x = 1
            answer = [squares, sorted(lines.get() for _ in range(4)), fired.wait(10), local.x]
        """) == [332_833_500, [0, 1, 2, 3], True, 1]

    @pytest.mark.usefixtures("numpy")
    def test_threads_beside_numpy(self, run_code: Callable[[str], Any]) -> None:
        """numpy lets go of the interpreter, and several threads calculate."""
        assert (
            run_code("""
            import numpy as np
            from concurrent.futures import ThreadPoolExecutor
            a = np.random.default_rng(1).normal(size=(200, 200))
            with ThreadPoolExecutor(4) as pool:
                traces = list(pool.map(lambda n: float(np.trace(a @ a)), range(8)))
            answer = len(set(traces))
        """)
            == 1
        )


class TestAsyncio:
    def test_a_loop_of_its_own(self, run_code: Callable[[str], Any]) -> None:
        """Tasks, timers, threads, queues and a cancelled task."""
        assert run_code("""
            import asyncio
            async def main():
                loop = asyncio.get_running_loop()
                async with asyncio.TaskGroup() as group:
                    slept = group.create_task(asyncio.sleep(0.01, "slept"))
                    thread = group.create_task(asyncio.to_thread(sum, [1, 2]))
                line = asyncio.Queue()
                loop.call_later(0.001, line.put_nowait, "called")
                task = asyncio.create_task(asyncio.sleep(60))
                task.cancel()
                gone = await asyncio.gather(task, return_exceptions=True)
                try:
                    async with asyncio.timeout(0.01):
                        await asyncio.sleep(60)
                except TimeoutError:
                    late = True
                return [slept.result(), thread.result(), await line.get(),
                        type(gone[0]).__name__, late]
            answer = asyncio.run(main())
        """) == ["slept", 3, "called", "CancelledError", True]

    def test_streams_within_itself(self, run_code: Callable[[str], Any]) -> None:
        """A pair of sockets and a pipe; sockets to others cannot be made."""
        assert (
            run_code("""
            import asyncio, os, socket
            async def main():
                one, two = socket.socketpair()
                reader, end = await asyncio.open_connection(sock=one)
                _, writer = await asyncio.open_connection(sock=two)
                writer.write(b"hello\\n")
                await writer.drain()
                line = await asyncio.wait_for(reader.readline(), 10)
                writer.close()
                end.close()
                try:
                    await asyncio.open_connection("127.0.0.1", 1)
                except PermissionError:
                    return line
            answer = asyncio.run(main())
        """)
            == b"hello\n"
        )


class TestFiles:
    def test_temporary_files(self, run_code: Callable[[str], Any]) -> None:
        """They lie in a private folder, and are gone when they are closed."""
        assert run_code("""
            import os, tempfile
            from pathlib import Path
            with tempfile.NamedTemporaryFile("w+") as named, tempfile.TemporaryFile() as nameless:
                named.write("text")
                named.flush()
                nameless.write(b"bytes")
                read = Path(named.name).read_text()
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "a", "b").mkdir(parents=True)
                Path(folder, "a", "b", "c").write_bytes(b"x")
            answer = [read, Path(folder).exists(), tempfile.gettempdir() == os.environ["TMPDIR"]]
        """) == ["text", False, True]

    def test_archives_and_copies(self, run_code: Callable[[str], Any]) -> None:
        """Archives are packed and unpacked, files and folders copied and moved."""
        assert run_code("""
            import gzip, json, pickle, shutil, tarfile, zipfile
            here = ctx.data_dir / "files"
            here.mkdir()
            (here / "a.txt").write_text("text")
            (here / "b.json").write_text(json.dumps({"a": [1, None]}))
            (here / "c.pickle").write_bytes(pickle.dumps({1, 2}))
            with zipfile.ZipFile(ctx.data_dir / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(here / "a.txt", "a.txt")
                archive.writestr("d/e.txt", "e")
            zipfile.ZipFile(ctx.data_dir / "z.zip").extractall(ctx.data_dir / "unzipped")
            with gzip.open(ctx.data_dir / "g.gz", "wt") as packed:
                packed.write("packed")
            shutil.copyfile(here / "a.txt", here / "copied.txt")
            shutil.move(here / "copied.txt", here / "moved.txt")
            answer = [(ctx.data_dir / "unzipped" / "d" / "e.txt").read_text(),
                      gzip.open(ctx.data_dir / "g.gz", "rt").read(),
                      (here / "moved.txt").read_text(),
                      sorted(pickle.loads((here / "c.pickle").read_bytes())),
                      json.loads((here / "b.json").read_text())]
            shutil.rmtree(here)
        """) == ["e", "packed", "text", [1, 2], {"a": [1, None]}]

    def test_modes_and_times_are_not_its_to_change(self, run_code: Callable[[str], Any]) -> None:
        """What only changes these is refused, also where a copy has been made before."""
        answers = run_code("""
            import os, shutil
            path = ctx.data_dir / "mode.txt"
            path.write_text("text")
            answer = {}
            def attempt(name, function):
                try:
                    answer[name] = function() and "done"
                except OSError as error:
                    answer[name] = type(error).__name__
            attempt("copyfile", lambda: shutil.copyfile(path, ctx.data_dir / "m0"))
            attempt("copy", lambda: shutil.copy(path, ctx.data_dir / "m1"))
            attempt("copy2", lambda: shutil.copy2(path, ctx.data_dir / "m2"))
            attempt("chmod", lambda: os.chmod(path, 0o600))
            attempt("utime", lambda: os.utime(path))
            path.touch()
            answer["copied"] = [(ctx.data_dir / name).read_text() for name in ("m0", "m1", "m2")]
        """)
        refused = dict.fromkeys(("copy", "copy2", "chmod", "utime"), "PermissionError")
        assert answers == {**refused, "copyfile": "done", "copied": ["text"] * 3}


class TestTheRest:
    def test_logging_and_callbacks_from_c(self, host: Host, run_code: Callable[[str], Any]) -> None:
        """Handlers of its own, a file that rotates, and a function that C calls back."""
        assert run_code("""
            import ctypes, logging, logging.handlers
            handler = logging.handlers.RotatingFileHandler(
                ctx.data_dir / "own.log", maxBytes=50, backupCount=2)
            logger = logging.getLogger("own")
            logger.addHandler(handler)
            for n in range(20):
                logger.warning("line %d", n)
            ctx.log.warning("to the host")
            pointer = ctypes.POINTER(ctypes.c_int)
            compare = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)
            numbers = (ctypes.c_int * 5)(5, 3, 1, 4, 2)
            ctypes.CDLL(None).qsort(numbers, 5, 4, compare(lambda a, b: a[0] - b[0]))
            answer = [len(list(ctx.data_dir.glob("own.log*"))), list(numbers)]
        """) == [3, [1, 2, 3, 4, 5]]

    @pytest.mark.parametrize(
        "code",
        [
            "import subprocess; subprocess.run(['true'])",
            "import os; os.fork()",
            "import os; os.posix_spawn('/bin/true', ['true'], {})",
            "import multiprocessing as m; m.get_context('fork').Process(target=print).start()",
            "import multiprocessing as m; m.get_context('spawn').Process(target=print).start()",
            "import asyncio; asyncio.run(asyncio.create_subprocess_exec('true'))",
            "from multiprocessing import shared_memory as s; s.SharedMemory(create=True, size=9)",
            "import multiprocessing; multiprocessing.Lock()",
        ],
    )
    def test_processes_are_refused_at_once(self, run_code: Callable[[str], Any], code: str) -> None:
        """With an error that says so; the plugin goes on."""
        answer = run_code(code)
        # Ours, which is one too, where the permission has a name.
        assert answer["raised"] in {"PermissionError", "PermissionDenied"}, answer
