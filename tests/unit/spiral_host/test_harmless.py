import pytest

from spiral_host.harmless import harmless_line, harmless_text

ATTACKS = {
    "colour": "\x1b[31mred",
    "title": "\x1b]0;owned\x07",
    "eight-bit csi": "\x9b31m",
    "return": "ok\rfailed",
    "backspace": "a\x08b",
    "delete": "a\x7fb",
    "right to left": "\u202egnp.exe",
    "line separator": "a\u2028b",
    "surrogate": "\udc80",
    "nul": "\x00",
}


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
class TestHarmless:
    def test_nothing_a_terminal_obeys_is_left(self, text: str) -> None:
        """
        What comes out is printable and encodable, whatever went in.
        """
        shown = harmless_line(text)

        assert shown.isprintable()
        assert shown.encode()

    def test_what_was_there_can_be_seen(self, text: str) -> None:
        """
        A hidden character is shown as its escape, never dropped.
        """
        assert harmless_text(text) == harmless_line(text) != text
        assert "\\" in harmless_line(text)


def test_honest_text_is_left_alone() -> None:
    """
    Letters of any script pass as they are.
    """
    assert harmless_line("λ größer 模型 -> 0.5") == "λ größer 模型 -> 0.5"


def test_only_texts_keep_their_lines() -> None:
    """
    A traceback stays in lines; a name cannot forge a second one.
    """
    assert harmless_text("a\n\tb") == "a\n\tb"
    assert harmless_line("a\n\tb") == "a\\n\\tb"
