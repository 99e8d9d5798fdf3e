# C's types for carrier.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.outgoing cimport Outgoing, size_of

cdef Py_ssize_t LARGE, CALL_PARTS

cpdef bint are_plain(tuple values) except -1

cdef class Carrier:
    cdef object __weakref__
    cdef public object extension, freed, packer, peer
    cdef public Outgoing _out
    cdef object _arena, _lane, _turn
    cdef bytes _last
    cdef list _leases
    @cython.locals(out=Outgoing, frame=bytes)
    cpdef bytes pack(self, tuple value)
    cpdef list take_freed(self)
    cpdef returned(self, object leases)
