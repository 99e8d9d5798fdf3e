import pytest

from spiral_host.endpoint import is_crowded


class TestCrowded:
    @pytest.mark.parametrize(
        ("used", "is_open", "crowded"),
        [
            (0, True, False),
            (768, True, False),
            (769, True, True),
            (768, False, True),
            (641, False, True),
            (640, False, False),
            (1024, True, True),
        ],
    )
    def test_the_door_shuts_early_and_opens_late(
        self, used: int, *, is_open: bool, crowded: bool
    ) -> None:
        """
        Of 1024 descriptors a quarter stays free; it opens again when three eighths are.
        """
        assert is_crowded(used, 1024, is_open=is_open) is crowded
