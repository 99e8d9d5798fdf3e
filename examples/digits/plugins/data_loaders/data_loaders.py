"""Serve scikit-learn's handwritten digits in batches. Knows nothing of the model or of its loss."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from plugin_worker import Plugin, PluginContext

Samples = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Pixels in [0, 1], shape (n, 64), and the digit each row shows, shape (n,)."""

SEED = 7
TEST_SHARE = 0.2
BRIGHTEST = 16.0
"""The data set counts ink in 17 grey levels, 0 to 16."""


class DigitsService:
    """Hand out one fixed split; the same epoch and index always give the same batch."""

    def __init__(self) -> None:
        pixels, labels = load_digits(return_X_y=True)
        x, y = (pixels / BRIGHTEST).astype(np.float32), labels.astype(np.int64)
        split = train_test_split(x, y, test_size=TEST_SHARE, stratify=y, random_state=SEED)
        self._train_x, self._test_x, self._train_y, self._test_y = split

    def train_count(self) -> int:
        """Return how many samples there are to learn from."""
        return len(self._train_x)

    def train_batch(self, epoch: int, index: int, size: int) -> Samples:
        """Return batch `index` of an epoch's own shuffle; the last one of an epoch may be shorter.

        The order follows from seed and epoch alone, so that a loader that was restarted in the
        middle of an epoch goes on where its predecessor stopped.
        """
        order = np.random.default_rng([SEED, epoch]).permutation(self.train_count())
        rows = order[index * size : (index + 1) * size]
        return self._train_x[rows], self._train_y[rows]

    def test_set(self) -> Samples:
        """Return the samples that training never sees; about 90 KiB."""
        return self._test_x, self._test_y


class DataLoadersPlugin(Plugin):
    """Offers the service `data`."""

    def on_load(self, ctx: PluginContext) -> None:
        """Read the data set before anyone can ask for it."""
        ctx.register_service("data", DigitsService())
