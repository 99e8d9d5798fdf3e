from typing import Any

import pytest

from protocol.errors import UsageError
from protocol.services import Services


class Asked(Services):
    """Remembers nothing and must not be asked for anything."""

    @property
    def _provider(self) -> Any:  # noqa: ANN401 - there is none
        raise AssertionError


class TestNames:
    @pytest.mark.parametrize("name", [None, b"math", 3, ["math"]])
    def test_what_is_no_text_is_asked_of_nobody(self, name: Any) -> None:  # noqa: ANN401 - any but the right one
        """
        The daemon ends the connection of whoever says such a thing.
        """
        with pytest.raises(UsageError, match="a service's name is text"):
            Asked().get_service(name)
        with pytest.raises(UsageError, match="a service's name is text"):
            Asked().wait_service(name, 1.0)
