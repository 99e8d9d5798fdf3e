import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.permissions import (
    EVERYONE,
    NOTHING,
    WORDS,
    Permissions,
    join,
    meet,
    missing,
    parse_permissions,
)

PATHS = st.sampled_from(["/a", "/a/b", "/a/b/c", "/ab", "/", "/c"])
NAMES = st.sampled_from(["*", "a", "a.*", "a.b", "a.b.*", "b", "b.*"])
SOME = st.fixed_dictionaries(
    {
        "read": st.lists(PATHS, max_size=3),
        "write": st.lists(PATHS, max_size=3),
        "network": st.lists(st.sampled_from([80, 443, 8080]), max_size=3),
        "subprocess": st.booleans(),
        "gpu": st.booleans(),
        "services": st.lists(NAMES, max_size=3),
        "publish": st.lists(NAMES, max_size=3),
        "subscribe": st.lists(NAMES, max_size=3),
        "config": st.lists(NAMES, max_size=3),
    }
).map(parse_permissions)


class TestReading:
    def test_every_word_is_read(self) -> None:
        """
        What an author writes is what is asked, sorted.
        """
        table = {
            "read": ["/srv/images/", "~/x"],
            "write": ["/srv//models/./y"],
            "network": [443, 80],
            "subprocess": True,
            "gpu": True,
            "services": ["tokenizer"],
            "publish": ["Trainer.*"],
            "subscribe": ["*"],
            "config": ["model.lr"],
        }

        asked = parse_permissions(table)

        assert set(table) == set(WORDS)
        assert asked.read == ("/srv/images", "~/x")
        assert asked.write == ("/srv/models/y",)
        assert asked.network == (80, 443)
        assert asked.words()[:4] == ["subprocess", "gpu", "read /srv/images", "read ~/x"]
        assert parse_permissions(json.loads(json.dumps(asked.to_wire()))) == asked

    @pytest.mark.parametrize(
        ("table", "why"),
        [
            ([], "no table"),
            ({"internet": True}, "unknown permission 'internet'; known: read, write"),
            ({"read": "/a"}, "read = '/a' is no list"),
            ({"read": ["a"]}, "read: 'a' is no path"),
            ({"read": [""]}, "read: '' is no path"),
            ({"read": ["/a\0"]}, "is no path"),
            ({"write": ["/a/../b"]}, "write: '/a/../b' has a '..'"),
            ({"network": [0]}, "network: 0 is no TCP port"),
            ({"network": [True]}, "network: True is no TCP port"),
            ({"network": ["443"]}, "network: '443' is no TCP port"),
            ({"network": list(range(1, 300))}, "more than 256 items"),
            ({"gpu": 1}, "gpu = 1 is neither true nor false"),
            ({"services": [1]}, "services: 1 is no event type and no pattern"),
            ({"publish": ["x\ny"]}, "publish: "),
        ],
        ids=repr,
    )
    def test_what_cannot_be_meant_is_refused_by_name(self, table: object, why: str) -> None:
        """
        The author is told which word it is, and what is wrong with it.
        """
        with pytest.raises(UsageError) as caught:
            parse_permissions(table)

        assert why in str(caught.value)


class TestWhatIsAllowed:
    def test_names_families_and_everything(self) -> None:
        """
        A family stands for what begins with it, and not for its own name.
        """
        held = parse_permissions(
            {"services": ["a", "b.*"], "publish": ["X.*"], "subscribe": ["X.*"], "config": ["*"]}
        )

        assert [held.may_call(name) for name in ("a", "ab", "b", "b.c")] == [
            True,
            False,
            False,
            True,
        ]
        assert (held.may_publish("X.y"), held.may_publish("Y")) == (True, False)
        assert [held.may_subscribe(p) for p in ("X.y", "X.y.*", "X.*")] == [True] * 3
        assert [held.may_subscribe(p) for p in ("*", "Y.*", "X")] == [False] * 3
        assert held.may_configure("anything")

    def test_nothing_is_false_and_everyone_reaches_nothing_outside(self) -> None:
        """
        As shipped nobody is granted files, network, programs or accelerators.
        """
        assert not NOTHING
        assert EVERYONE
        outside = (EVERYONE.read, EVERYONE.write, EVERYONE.network)
        assert outside == ((), (), ())
        assert not EVERYONE.subprocess
        assert not EVERYONE.gpu


class TestAskedAndGranted:
    def test_a_narrower_grant_narrows(self) -> None:
        """
        What runs is what both say, whichever is narrower.
        """
        asked = parse_permissions({"read": ["/a", "/b/c"], "publish": ["*"], "network": [80, 443]})
        granted = parse_permissions({"read": ["/a/x", "/b"], "publish": ["T.*"], "network": [443]})

        both = meet(asked, granted)

        assert both == Permissions(read=("/a/x", "/b/c"), publish=("T.*",), network=(443,))
        assert missing(asked, granted) == Permissions(read=("/a",), publish=("*",), network=(80,))

    def test_writing_includes_reading(self) -> None:
        """
        Who may write there need not be granted to read, too.
        """
        asked, granted = Permissions(read=("/a/b",)), Permissions(write=("/a",))

        assert not missing(asked, granted)
        assert meet(asked, granted) == asked
        assert missing(granted, asked) == granted

    def test_a_sibling_with_a_longer_name_is_not_inside(self) -> None:
        """
        A path is inside a folder, not behind some letters.
        """
        assert missing(Permissions(read=("/ab",)), Permissions(read=("/a",)))
        assert not missing(Permissions(read=("/ab",)), Permissions(read=("/",)))

    @given(asked=SOME, granted=SOME)
    def test_what_is_in_force_is_asked_and_granted(
        self, asked: Permissions, granted: Permissions
    ) -> None:
        """
        Whatever the two say, nothing is in force that one of them does not say.
        """
        both = meet(asked, granted)

        assert not missing(both, asked)
        assert not missing(both, granted)
        assert not missing(asked, join(both, missing(asked, granted)))
        assert meet(granted, asked) == both

    @given(one=SOME, other=SOME)
    def test_join_says_what_either_says(self, one: Permissions, other: Permissions) -> None:
        """
        Two grants together are no less, and no more, than each.
        """
        both = join(one, other)

        assert not missing(one, both)
        assert not missing(other, both)
        assert not missing(missing(both, one), other)
        assert join(both, one) == both
