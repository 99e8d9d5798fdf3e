"""The table `[supervision]` of a manifest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UsageError
from spiral_host.policy import Policy, Restart
from spiral_host.supervision import OnLoss, Supervision, parse_supervision

NEEDS = {"base": ">=1.0"}


class TestParse:
    def test_nothing_declared_is_the_default(self) -> None:
        """
        A plugin that says nothing is permanent, and only told of its providers.
        """
        assert parse_supervision(None, NEEDS) == Supervision()
        assert Supervision().policy.restart is Restart.PERMANENT

    def test_every_word_counts(self) -> None:
        """
        Each key changes one thing of the policy.
        """
        table = {
            "restart": "transient",
            "start_s": 120,
            "hang_s": 30,
            "stop_s": 1.5,
            "crashes": 2,
            "backoff_max_s": 4,
            "providers": {"base": "block"},
        }
        policy = Policy(
            restart=Restart.TRANSIENT,
            start=120.0,
            hang=30.0,
            drain=1.5,
            threshold=2.0,
            backoff_max=4.0,
        )
        expected = Supervision(policy=policy, providers={"base": OnLoss.BLOCK})
        assert parse_supervision(table, NEEDS) == expected

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ("always", "is no table"),
            ({"retsart": "permanent"}, "unknown 'retsart'; known: backoff_max_s"),
            ({"restart": "always"}, "is none of: permanent, transient, temporary"),
            ({"restart": 3}, "is none of: permanent"),
            ({"hang_s": 0}, "is no number from 0.1 to 3600"),
            ({"hang_s": True}, "is no number"),
            ({"hang_s": "10"}, "is no number"),
            ({"hang_s": float("nan")}, "is no number"),
            ({"start_s": float("inf")}, "is no number"),
            ({"stop_s": 21}, "is no number from 0 to 20"),
            ({"crashes": -1}, "is no number"),
            ({"providers": ["base"]}, "is no table"),
            ({"providers": {"other": "tell"}}, "'other' is no dependency; name it among"),
            ({"providers": {"base": "die"}}, "is none of: tell, block, restart"),
            ({"providers": {"base": ["tell"]}}, "is none of: tell, block, restart"),
            ({"restart": "temporary", "crashes": 3}, "so crashes means nothing"),
            ({"restart": "temporary", "providers": {"base": "restart"}}, "also not with base"),
        ],
    )
    def test_what_cannot_be_meant_is_named(self, table: object, words: str) -> None:
        """
        Unknown words, numbers out of range and policies that contradict each other are refused.
        """
        with pytest.raises(UsageError, match=words):
            parse_supervision(table, NEEDS)

    @given(
        st.sampled_from(Restart),
        st.floats(1, 3600),
        st.dictionaries(st.text(max_size=5), st.sampled_from(OnLoss)),
    )
    def test_the_store_gives_it_back(
        self, restart: Restart, hang: float, providers: dict[str, OnLoss]
    ) -> None:
        """
        What was written down as JSON is read as what it was.
        """
        said = Supervision(policy=Policy(restart=restart, hang=hang), providers=providers)
        assert Supervision.from_wire(json.loads(json.dumps(said.to_wire()))) == said
