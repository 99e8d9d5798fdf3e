from collections.abc import Callable
from enum import StrEnum

import pytest

from protocol.errors import UsageError
from protocol.names import (
    MAX_TOPIC,
    parse_method,
    parse_pattern,
    parse_plugin_id,
    parse_service,
    parse_topic,
    shown,
)

BAD: list[tuple[Callable[[object], object], object]] = [
    (parse_plugin_id, ""),
    (parse_plugin_id, "."),
    (parse_plugin_id, ".."),
    (parse_plugin_id, "-rf"),
    (parse_plugin_id, "a/b"),
    (parse_plugin_id, "a\n"),
    (parse_plugin_id, "é"),
    (parse_plugin_id, "a" * 65),
    (parse_plugin_id, 7),
    (parse_plugin_id, None),
    (parse_service, "1st"),
    (parse_service, "a b"),
    (parse_service, "a" * 129),
    (parse_service, b"bytes"),
    (parse_topic, ""),
    (parse_topic, "*"),
    (parse_topic, "a\0b"),
    (parse_topic, "\udcff"),
    (parse_topic, "é" * (MAX_TOPIC // 2 + 1)),
    (parse_topic, 1.5),
    (parse_topic, "Trainer.*"),
    (parse_topic, ".*"),
    (parse_pattern, ""),
    (parse_pattern, ".*"),
    (parse_pattern, "*.*"),
    (parse_pattern, "Trainer.*.*"),
    (parse_pattern, "T*.*"),
    (parse_pattern, "a\0.*"),
    (parse_pattern, "\udcff"),
    (parse_pattern, "x" * (MAX_TOPIC - 1) + ".*"),
    (parse_pattern, b"Trainer.*"),
    (parse_method, "_private"),
    (parse_method, "__class__"),
    (parse_method, "naïve"),
    (parse_method, "a.b"),
    (parse_method, []),
]


class TestNames:
    @pytest.mark.parametrize(("parse", "text"), BAD)
    def test_what_is_no_name_is_refused(
        self, parse: Callable[[object], object], text: object
    ) -> None:
        """
        Nothing passes that could leave a folder, a line or a topic frame.
        """
        with pytest.raises(UsageError):
            parse(text)

    @pytest.mark.parametrize(
        ("parse", "text"),
        [
            (parse_plugin_id, "a"),
            (parse_plugin_id, "_x.y-z"),
            (parse_plugin_id, "9" * 64),
            (parse_service, "spiral:matmul.v2"),
            (parse_topic, "Größe geändert"),
            (parse_topic, "x" * MAX_TOPIC),
            (parse_topic, "Trainer."),
            (parse_pattern, "*"),
            (parse_pattern, "Größe geändert"),
            (parse_pattern, "Trainer.*"),
            (parse_pattern, "Trainer.epoch.*"),
            (parse_pattern, "x" * (MAX_TOPIC - 2) + ".*"),
            (parse_method, "step2_done"),
        ],
    )
    def test_a_name_is_given_back_unchanged(
        self, parse: Callable[[object], object], text: str
    ) -> None:
        """
        Parsing accepts or refuses; it never repairs.
        """
        assert parse(text) == text

    def test_what_is_shown_is_one_short_harmless_line(self) -> None:
        """
        Untrusted text is quoted in ASCII and cut, so that it cannot paint on a terminal.
        """
        assert shown("\x1b[2J\n") == r"'\x1b[2J\n'"
        assert len(shown("x" * 10_000)) <= 72


def test_a_name_may_come_from_an_enumeration() -> None:
    """
    What is kept is the text itself, whatever class it came in.
    """

    class Known(StrEnum):
        MATH = "math"

    for parse in (parse_service, parse_method):
        assert type(parse(Known.MATH)) is str
        assert parse(Known.MATH) == "math"
