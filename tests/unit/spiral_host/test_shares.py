from itertools import cycle, islice

import pytest

from spiral_host.shares import last_of_each, share


def line(owner: str, number: int) -> bytes:
    text = f'{{"at": "now", "kind": "refused", "plugin_id": "{owner}", "what": {number:04}}}'
    return text.encode() + b"\n"


SIZE = len(line("a", 0))


class TestShare:
    @pytest.mark.parametrize(
        ("sizes", "room", "most"),
        [
            ((), 100, 100),
            ((30, 40), 100, 100),
            ((1000,), 100, 100),
            ((1000, 10), 100, 90),
            ((1000, 10, 1000), 100, 45),
            ((50, 50, 50), 100, 33),
        ],
    )
    def test_what_some_do_not_need_the_others_have(
        self, sizes: tuple[int, ...], room: int, most: int
    ) -> None:
        assert share(sizes, room) == most


class TestLines:
    def test_whoever_has_much_loses_its_oldest(self) -> None:
        """
        Whoever has little loses nothing, however long ago it was.
        """
        lines = [line("b", 0), *(line("a", number) for number in range(10)), line("b", 1)]
        kept = last_of_each(lines, 6 * SIZE)
        assert kept == [line("b", 0), *(line("a", number) for number in range(6, 10)), line("b", 1)]

    def test_all_that_want_much_get_the_same(self) -> None:
        owners = islice(cycle("abc"), 300)
        lines = [line(owner, number) for number, owner in enumerate(owners)]
        kept = last_of_each(lines, 30 * SIZE)
        assert kept == lines[-30:]

    def test_nothing_newer_goes_before_something_older(self) -> None:
        """
        A short line does not outlive a long one that came after it.
        """
        long = line("a", 0)[:-3] + b"0" * 5 * SIZE + b"}\n"
        assert last_of_each([line("a", 1), long, line("a", 2)], 3 * SIZE) == [line("a", 2)]

    def test_no_plugin_writes_in_the_name_of_another(self) -> None:
        """
        What it has chosen stands behind its own name.
        """
        said = r'"plugin_id\": \"b\", "plugin_id": "b"'  # even if it were not escaped
        lie = line("a", 0).replace(b"0000", said.encode())
        lines = [line("b", 0), *[lie] * 100]
        assert last_of_each(lines, 10 * len(lie))[0] == line("b", 0)
