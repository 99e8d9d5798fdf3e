# C's types for carrier.py; docs/design.md says what to know (What is compiled).
cpdef bint are_plain(tuple values) except -1

cdef class Carrier:
    cdef object __weakref__
    cdef public object extension, freed, packer, peer
    cdef public object _out
    cdef object _arena, _lane, _turn
    cdef tuple _last
    cpdef bytes pack(self, tuple value)
