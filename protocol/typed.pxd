# C's types for typed.py; docs/design.md says what to know (What is compiled).
import cython

cdef class Signature:
    cdef public str name
    cdef public object parameters
    cdef public bint is_trivial
    cdef public dict fitting
    cdef dict _checks
    cdef public dict _plans
    cdef object _result, _item
    @cython.locals(types=list, place=Py_ssize_t)
    cpdef bint fits(self, list arguments) except -1
    cpdef tuple prepare(self, list arguments, dict keywords)
