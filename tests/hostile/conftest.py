"""One house for each profile, and none where the machine lacks a layer of it."""

from collections.abc import Iterator
from typing import Final

import pytest

from plugin_worker.sandbox.policy import LAYER_NAMES, STANDARD
from plugin_worker.sandbox.probe import probe
from tests.hostile.house import House, new_house
from tests.hostile.table import PROFILES

SECRET_NAME: Final = "HOSTILE_SECRET"
LAYERS: Final = {"off": (), "standard": STANDARD, "strict": LAYER_NAMES}


@pytest.fixture(scope="module", params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    """Each profile whose every layer this machine has: without one an attack proves nothing."""
    name: str = request.param
    missing = [f"{layer}: {why}" for layer, why in probe(LAYERS[name]).items() if why]
    if missing:
        pytest.skip("this machine says: " + "; ".join(missing))
    return name


@pytest.fixture(scope="module")
def house(profile: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A host under this profile, in an environment that holds a secret."""
    from tests.hostile.scene import SECRET

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SECRET_NAME, SECRET)
        with new_house(profile, tmp_path_factory.mktemp("house")) as house:
            yield house
