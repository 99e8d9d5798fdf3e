# C's types for incoming.py; docs/design.md says what to know (What is compiled).
from protocol.arena cimport Arena
from protocol.arrays cimport build, from_extension

cdef class Incoming:
    cdef public object freed
    cdef Arena _arena
    cdef object _lane, _peer
    cdef _view(self, list parts)
