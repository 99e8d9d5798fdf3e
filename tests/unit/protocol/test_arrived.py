import copy
import pickle

import numpy as np
import pytest
from numpy.typing import NDArray

from protocol.codec import pack_value, unpack_value


@pytest.fixture
def arrived() -> NDArray[np.float64]:
    array: NDArray[np.float64] = unpack_value(pack_value(np.arange(12.0).reshape(3, 4)))
    return array


class TestArrivedArray:
    def test_what_is_computed_is_an_ordinary_array(self, arrived: NDArray[np.float64]) -> None:
        """
        The class does not spread: sums, products and reductions are numpy's own.
        """
        for result in (arrived + 1, arrived @ arrived.T, np.sqrt(arrived), arrived.mean(axis=0)):
            assert type(result) is np.ndarray
            assert result.flags.writeable
        assert type(arrived.sum()) is np.float64

    def test_its_parts_are_as_it_is(self, arrived: NDArray[np.float64]) -> None:
        """
        A slice is read-only too, and still knows what to say to DLPack.
        """
        assert type(arrived[1:]) is type(arrived)
        assert np.array_equal(np.from_dlpack(arrived[1:]), arrived[1:])

    def test_it_reads_like_an_ordinary_array(self, arrived: NDArray[np.float64]) -> None:
        """
        People see numpy's own text.
        """
        assert repr(arrived[0]) == "array([0., 1., 2., 3.])"
        assert isinstance(arrived, np.ndarray)

    def test_it_is_pickled_as_one(self, arrived: NDArray[np.float64]) -> None:
        """
        Who loads it need not have this package.
        """
        stored = pickle.dumps(arrived)
        assert b"arrived" not in stored
        assert np.array_equal(pickle.loads(stored), arrived)

    def test_dlpack_without_a_word_for_read_only(self, arrived: NDArray[np.float64]) -> None:
        """
        Older consumers get a copy, unless they forbid one; newer ones the array itself.
        """
        assert "dltensor" in repr(arrived.__dlpack__())
        assert "versioned" in repr(arrived.__dlpack__(max_version=(1, 0)))
        with pytest.raises(BufferError):
            arrived.__dlpack__(copy=False)
        assert np.from_dlpack(arrived, copy=True).flags.writeable

    def test_a_copy_is_one_s_own(self, arrived: NDArray[np.float64]) -> None:
        """
        A writable copy is exported as it is, even by older DLPack.
        """
        own = copy.deepcopy(arrived)
        own[0, 0] = 5
        assert arrived[0, 0] == 0
        assert "dltensor" in repr(own.__dlpack__())
