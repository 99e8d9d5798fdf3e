"""The class of arrays that came from another process. Imports numpy, so it is imported late.

They differ from others in one thing only: they are read-only, and older DLPack, which has no word
for that, still gets them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class ArrivedArray(np.ndarray[Any, Any]):
    """A read-only array over what arrived; what is computed from it is an ordinary array."""

    def __dlpack__(self, **asked: Any) -> Any:  # noqa: ANN401 - as the protocol has it
        """Give the array to another library: itself where read-only can be said, else a copy.

        Raises:
            BufferError: A copy is forbidden and read-only cannot be said.
        """
        plain = self.view(np.ndarray)
        may_say = self.flags.writeable or _knows_readonly(asked.get("max_version"))
        if asked.get("copy") is None and not may_say:
            return plain.copy(order="K").__dlpack__(stream=asked.get("stream"))
        return plain.__dlpack__(**asked)

    def __array_wrap__(
        self,
        array: NDArray[Any],
        context: Any = None,  # noqa: ANN401 - not looked at
        return_scalar: bool = False,  # noqa: FBT001, FBT002 - numpy calls it so
    ) -> Any:  # noqa: ANN401 - an array or a number
        """Give the result of a computation as numpy gives it for its own arrays."""
        return array[()] if return_scalar else array.view(np.ndarray)

    def __reduce_ex__(self, protocol: Any) -> Any:  # noqa: ANN401 - as pickle has it
        """Pickle as an ordinary array: who reads it may not have this class."""
        return self.view(np.ndarray).__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return repr(self.view(np.ndarray))


def _knows_readonly(version: tuple[int, int] | None) -> bool:
    return version is not None and version >= (1, 0)
