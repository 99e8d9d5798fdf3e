"""The command `report` on files: what people read, what scripts read, how it leaves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from protocol.messages import Cause
from spiral_host.crash_files import CrashFiles
from spiral_host.crashes import Past
from tests.unit.spiral_host.cli.fakes import Town, one_line
from tests.unit.spiral_host.deaths import remains, report

PAGE = """\
alpha 1.2.0: SIGSEGV, while ready, 61.5 s after its start
  kind        signal
  cause       SIGSEGV
  when        2023-11-14T22:13:20.000+00:00 (monotonic clock 100.000 s)
  state       ready
  lived       0:01:01 (61.500 s)
  process     pid 4242, incarnation 7
  calls       12 answered, 2 of them raised
  restarts    1
  next        restart at 2023-11-14T22:13:20.500+00:00
  plugin      /plugins/alpha
  versions    plugin 1.2.0, python 3, protocol 1

stacks
    Current thread 0x1 (most recent call first):
      File alpha.py, line 3 in work

calls in flight
    math, call 9 of beta, 1.2 s left

last events
    EpochEnd
    EpochStart

last log lines
    first line
    last line

memory and processor
       5.0 s before: 40.0 MB, 2.50 s of a core, 3 threads

earlier deaths
    30 s before: exit status 3, after 2 s
"""


def keep(run_dir: Path, **what: object) -> None:
    """Have a report on disk."""
    made = report(**what)
    made.versions["python"] = "3"
    CrashFiles(run_dir).save(made, may_be_known=False)


def ask(run_dir: Path, *words: str) -> Result:
    """Ask for reports where no daemon runs."""
    return Town(runs=False).command("report", *words, "--run-dir", str(run_dir))


class TestPage:
    def test_people_read_a_page(self, tmp_path: Path) -> None:
        """
        Everything that is known, in sections; without a terminal it is plain text.
        """
        keep(tmp_path)

        result = ask(tmp_path, "alpha")

        assert (result.exit_code, result.stdout, result.stderr) == (0, PAGE, "")

    def test_what_is_unknown_is_left_out(self, tmp_path: Path) -> None:
        """
        A lost node leaves few facts and no empty sections.
        """
        bare = Cause(kind="unknown")
        keep(tmp_path, cause=bare, reason="the node was lost", remains=None, lived_s=None, past=())

        page = ask(tmp_path, "alpha").stdout

        assert "reason      the node was lost" in page
        assert "\n\n" not in page
        assert "None" not in page

    def test_a_traceback_is_shown_in_full(self, tmp_path: Path) -> None:
        """
        The author's lines, in their order.
        """
        text = "Traceback (most recent call last):\n  File x\nValueError: no\n"
        keep(tmp_path, cause=Cause(kind="exit", code=1), reason="on_load raised", traceback=text)

        page = ask(tmp_path, "alpha").stdout

        assert "\ntraceback\n    Traceback (most recent call last):\n      File x\n    Valu" in page

    def test_late_calls_and_unknown_lives(self, tmp_path: Path) -> None:
        """
        A call whose deadline had passed says by how much; a caller without a name has its number.
        """
        (flight,) = remains().flights
        late = replace(flight, left_s=-2.5, caller_name="")
        past = Past(ago_s=1.0, cause="x", lived_s=None)
        keep(tmp_path, remains=remains(flights=(late,)), past=(past,))

        page = ask(tmp_path, "alpha").stdout

        assert "math, call 9 of 3, 2.5 s late" in page
        assert " 1 s before: x\n" in page

    def test_nothing_that_a_plugin_wrote_is_obeyed(self, tmp_path: Path) -> None:
        """
        Escapes are shown, and no line that a plugin wrote can pass for one of ours.
        """
        evil = "\x1b[2J\x9b31m\u202e\rkind  exit\nkind        exit\nlast events"
        keep(
            tmp_path,
            traceback=evil,
            reason=evil,
            path=evil,
            remains=remains(log=evil, events=(evil,), stacks=evil),
        )

        page = ask(tmp_path, "alpha").stdout

        assert page.replace("\n", "").isprintable()
        assert page.count("\nlast events\n") == 1
        assert page.count("\n  kind ") == 1
        assert page.count("\n    kind ") > 3

    def test_a_half_file_is_named_and_passed_over(self, tmp_path: Path) -> None:
        """
        The newest that can be read is shown; what cannot be is a line on stderr.
        """
        keep(tmp_path)
        keep(tmp_path, incarnation=8)
        path = tmp_path / "crashes" / "alpha" / "00000002-8.json"
        path.write_text('{"plugin_id":')

        result = ask(tmp_path, "alpha")

        assert result.exit_code == 0
        assert "incarnation 7" in result.stdout
        one_line_of = result.stderr.splitlines()
        assert len(one_line_of) == 1
        assert str(path) in one_line_of[0]
        assert "remove it" in one_line_of[0]


class TestForScripts:
    def test_json_is_the_report_itself(self, tmp_path: Path) -> None:
        """
        `--json` prints what lies on disk.
        """
        keep(tmp_path, traceback="\x1b\x7f\ud800")

        result = ask(tmp_path, "alpha", "--json")

        (path,) = (tmp_path / "crashes").rglob("*.json")
        assert json.loads(result.stdout) == json.loads(path.read_text())
        assert result.stdout.replace("\n", "").isprintable()

    def test_all_of_them(self, tmp_path: Path) -> None:
        """
        `--all` prints every report, newest first, as pages or as one list.
        """
        for incarnation in (1, 2):
            keep(tmp_path, incarnation=incarnation)

        rows = json.loads(ask(tmp_path, "alpha", "--all", "--json").stdout)
        page = ask(tmp_path, "alpha", "--all").stdout

        assert [row["incarnation"] for row in rows] == [2, 1]
        assert page.index("incarnation 2") < page.index("incarnation 1")

    def test_a_list(self, tmp_path: Path) -> None:
        """
        `--list` is a line each: when, of which kind, what, and what became of it.
        """
        keep(tmp_path, incarnation=1, next="quarantined", next_in_s=None)

        rows = json.loads(ask(tmp_path, "alpha", "--list", "--json").stdout)
        heading, line = ask(tmp_path, "alpha", "--list").stdout.splitlines()

        (row,) = rows
        assert (row["kind"], row["pid"], row["next"]) == ("signal", 4242, "quarantined")
        assert heading.split() == list(row)
        assert "SIGSEGV, while ready" in line


class TestNone:
    def test_a_plugin_that_never_died(self, tmp_path: Path) -> None:
        """
        No report is a no in one line that says where it was looked for.
        """
        keep(tmp_path)

        one_line(ask(tmp_path, "beta"), 1, "beta", "no crash report", str(tmp_path))

    def test_none_that_can_be_read(self, tmp_path: Path) -> None:
        """
        Where only half files are, they are named and the answer is no.
        """
        keep(tmp_path)
        (path,) = (tmp_path / "crashes").rglob("*.json")
        path.write_text("")

        result = ask(tmp_path, "alpha")

        assert (result.exit_code, result.stdout) == (1, "")
        assert [str(path) in line for line in result.stderr.splitlines()] == [True, False]

    @pytest.mark.parametrize("plugin_id", ["../alpha", "/etc/passwd", ".", "a\x1b[31m"])
    def test_an_id_is_no_path(self, tmp_path: Path, plugin_id: str) -> None:
        """
        What is no id is wrong usage, in one line.
        """
        one_line(ask(tmp_path, plugin_id), 2, "is no plugin id")
