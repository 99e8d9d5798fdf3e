"""Raise what the kernel lets this process have, to what it is allowed to have."""

import resource


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors to the hard one: libzmq aborts where none is left."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
