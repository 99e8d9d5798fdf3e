"""Fail if a link in the documentation leads nowhere: a missing file, or a missing heading.

    check_links.py FILE_OR_FOLDER...

Links to other sites are not followed.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

CODE = re.compile(r"^ *(```|~~~).*?^ *\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(<?([^)\s>]+)")
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)


def main(arguments: list[str]) -> int:
    pages = [page for argument in arguments for page in pages_under(Path(argument))]
    broken = [f"{page}: {link} {why}" for page in pages for link, why in broken_links(page)]
    print("\n".join(broken) or f"Every link in {len(pages)} pages leads somewhere.")
    return bool(broken)


def pages_under(path: Path) -> list[Path]:
    return sorted(path.rglob("*.md")) if path.is_dir() else [path]


def broken_links(page: Path) -> Iterator[tuple[str, str]]:
    """Yield each link that leads nowhere, with the reason."""
    for link in LINK.findall(CODE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists():
            yield link, "names no file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield link, "names no heading"


def anchors(page: Path) -> set[str]:
    """Name the headings of a page as GitHub does: lower case, no punctuation, dashes for spaces."""
    text = re.sub(r"^ *(```|~~~).*?^ *\1", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in HEADING.findall(text)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
