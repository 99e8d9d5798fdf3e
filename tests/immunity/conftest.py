"""What every test here may ask for: the same runs and hosts as the integration tests."""

from tests.integration.conftest import run, shared

__all__ = ["run", "shared"]
