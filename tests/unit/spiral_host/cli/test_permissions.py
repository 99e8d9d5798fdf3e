"""What the commands about permissions ask of a host, print, and leave with."""

import json
from dataclasses import replace

import pytest

from protocol.permissions import EVERYONE, NOTHING, Permissions, join
from spiral_host import PluginPermissions
from tests.unit.spiral_host.cli.fakes import FakeHost, Town, error_lines, one_line

WEB = Permissions(network=(80, 443))

READY = PluginPermissions(
    id="alpha",
    version="1.0.0",
    state="ready",
    reason="",
    declares=True,
    asked=WEB,
    granted=join(EVERYONE, WEB),
    in_force=WEB,
    lacking=NOTHING,
    impossible=(),
    leads={},
    digest="sha256:1",
    consented={"version": "0.9.0", "when": "2026-01-31T12:00:00+00:00"},
    refused=(),
)
BLOCKED = replace(
    READY,
    state="blocked",
    reason="asks for network 80, network 443; ...",
    granted=EVERYONE,
    in_force=NOTHING,
    lacking=WEB,
    consented=None,
)


def town(*allowed: PluginPermissions) -> Town:
    return Town(FakeHost(allowed=list(allowed)))


class TestGrant:
    def test_all_that_it_asks_for(self) -> None:
        here = town(READY)
        result = here.command("grant", "alpha")
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            "alpha 1.0.0: granting network 80, network 443",
            "alpha: granted; in force: network 80, network 443",
        ]
        assert here.host.asked == [("grant", "alpha", None, "sha256:1")]

    def test_it_is_shown_where_paths_lead(self) -> None:
        one = replace(READY, asked=Permissions(read=("/real",)), leads={"/link": "/real"})
        lines = town(one).command("grant", "alpha").stdout.splitlines()
        assert lines[:2] == ["alpha 1.0.0: granting read /real", "  (/link leads to /real)"]

    def test_only_what_was_looked_at_before(self) -> None:
        """
        Its digest goes to the daemon, which refuses any other; of another nothing is announced.
        """
        here = town(READY)
        lines = here.command("grant", "alpha", "gpu", "--digest", "sha256:1").stdout.splitlines()
        assert lines[0] == "alpha 1.0.0: granting gpu"

        result = here.command("grant", "alpha", "--digest", "sha256:2")
        assert "granting" not in result.stdout
        assert here.host.asked == [
            ("grant", "alpha", {"gpu": True}, "sha256:1"),
            ("grant", "alpha", None, "sha256:2"),
        ]

    def test_an_empty_digest_stands_for_none(self) -> None:
        """
        To the daemon it would mean whatever the plugin asks for.
        """
        here = town(READY)
        one_line(here.command("grant", "alpha", "--digest", ""), 2, "--digest")
        assert here.host.asked == []

    @pytest.mark.parametrize(
        ("words", "part"),
        [
            (("network=443", "network=80"), {"network": [443, 80]}),
            (("gpu", "read=/srv/a=b"), {"gpu": True, "read": ["/srv/a=b"]}),
            (("services=9",), {"services": [9]}),
            (("--nothing",), {}),
        ],
    )
    def test_a_part_of_it(self, words: tuple[str, ...], part: dict[str, object]) -> None:
        here = town(READY)
        assert here.command("grant", "alpha", *words).exit_code == 0
        assert here.host.asked == [("grant", "alpha", part, "sha256:1")]

    def test_what_was_not_granted_is_said(self) -> None:
        less = replace(READY, granted=EVERYONE, in_force=NOTHING)
        lines = town(less).command("grant", "alpha", "--nothing").stdout.splitlines()
        assert lines == [
            "alpha 1.0.0: granting nothing",
            "alpha: granted; in force: nothing; not granted: network 80, network 443",
        ]

    def test_one_that_is_not_ready_all_the_same_is_a_no(self) -> None:
        result = town(BLOCKED).command("grant", "alpha", "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout)["lacking"] == {"network": [80, 443]}
        assert error_lines(result) == [
            "spiral-host: alpha: blocked: asks for network 80, network 443; ..."
        ]

    def test_one_that_is_not_there_is_a_no(self) -> None:
        one_line(town().command("grant", "nobody"), 1, "nobody", "is loaded")


class TestRevoke:
    def test_it_says_what_has_become_of_the_plugin(self) -> None:
        here = town(BLOCKED)
        assert here.command("revoke", "alpha").stdout == "alpha: revoked; it is blocked\n"
        assert here.host.asked == [("revoke", "alpha")]

    def test_one_that_is_not_loaded(self) -> None:
        assert town().command("revoke", "gone").stdout == "gone: revoked; it is not loaded\n"
        assert town().command("revoke", "gone", "--json").stdout == "null\n"

    def test_of_nothing_is_a_no(self) -> None:
        one_line(town().command("revoke", "nobody"), 1, "nobody")


class TestPermissions:
    def test_a_page_of_one(self) -> None:
        """
        Asked, granted, in force, and what was refused last.
        """
        refused = {"permission": "read", "what": "/etc/\x1b[2J", "count": 3, "ago_s": 61.0}
        one = replace(READY, leads={"/link": "/real"}, refused=(refused,))
        result = town(one).command("permissions", "alpha")
        assert result.stdout.splitlines() == [
            "alpha 1.0.0: ready",
            "  asked         network 80",
            "                network 443",
            "                (/link leads to /real)",
            "  granted       network 80",
            "                network 443",
            "                services *",
            "                publish *",
            "                subscribe *",
            "                config *",
            "  consented to  version 0.9.0, 2026-01-31T12:00:00+00:00",
            "  in force      network 80",
            "                network 443",
            "  to grant this spiral-host grant alpha --digest sha256:1",
            "  last refused  read /etc/\\x1b[2J, 3 times, the last 0:01:01 ago",
        ]

    def test_of_one_that_is_blocked(self) -> None:
        one = replace(BLOCKED, impossible=("read /x: it does not exist",))
        lines = town(one).command("permissions", "alpha").stdout.splitlines()
        assert lines[0].startswith("alpha 1.0.0: blocked: asks for")
        assert "  not granted   network 80" in lines
        assert "  in force      nothing" in lines
        assert "  impossible    read /x: it does not exist" in lines
        assert "to grant this" not in "".join(lines)

    def test_of_one_that_says_nothing(self) -> None:
        one = replace(READY, declares=False, asked=NOTHING)
        lines = town(one).command("permissions", "alpha").stdout.splitlines()
        assert lines[1].startswith("  asked         (its manifest says nothing")
        assert "to grant this" not in "".join(lines)

    def test_a_table_of_all(self) -> None:
        text = town(READY, replace(BLOCKED, id="beta")).command("permissions").stdout
        heading, alpha, beta = text.splitlines()
        assert heading.split() == ["id", "version", "state", "in", "force", "lacking", "refused"]
        assert alpha.split()[:3] == ["alpha", "1.0.0", "ready"]
        assert "network 80; network 443" in beta

    def test_in_json(self) -> None:
        here = town(READY)
        one = json.loads(here.command("permissions", "alpha", "--json").stdout)
        (same,) = json.loads(here.command("permissions", "--json").stdout)
        assert one == same
        assert one["in_force"] == {"network": [80, 443]}
        assert one["digest"] == "sha256:1"

    def test_one_that_is_not_there_is_a_no(self) -> None:
        one_line(town().command("permissions", "nobody"), 1, "nobody", "is loaded")
