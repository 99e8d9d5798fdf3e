"""Make text from plugins safe to print; changes how it looks, never what is stored.

A plugin chooses its name, its reasons and its log lines. Escape sequences in them could move
the cursor, forge other lines or retitle the terminal; bidirectional marks could reorder what
is read. Whatever `str.isprintable` refuses is therefore shown as the escape Python would write.
"""


def harmless_line(text: object) -> str:
    """Make it one line: line breaks and tabs are shown as escapes too."""
    return _escaped(str(text), keep="")


def harmless_text(text: object) -> str:
    """Make it safe and keep its line breaks and tabs, for tracebacks."""
    return _escaped(str(text), keep="\n\t")


def _escaped(text: str, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
