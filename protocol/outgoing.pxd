# C's types for outgoing.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.arena cimport Arena
from protocol.arrays cimport describe, is_array, is_numpy, new_extension
from protocol.pool cimport Pool

cdef Py_ssize_t LARGE

cpdef Py_ssize_t size_of(object value) except -1

cdef class Outgoing:
    cdef public list lent
    cdef public bint is_used
    cdef Arena _arena
    cdef object _lane, _numbers, _pack
    cdef public Pool _pool
    cdef dict _segments, _own
    cdef object _current, _offset, _packed, _again
    cdef bint _is_over
    cpdef list done(self)
    cpdef undo(self, list leases)
    cdef _begin(self)
    cdef _once(self, object value)
    cdef _place(self, object value)
    cdef _place_array(self, object array)
    cdef _lend_own(self, object segment)
    cpdef returned(self, object leases)
    cdef _drop(self, list numbers)
