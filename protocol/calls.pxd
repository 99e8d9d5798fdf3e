# C's types for calls.py; docs/design.md says what to know (What is compiled).
cdef Py_ssize_t _LINK_PARTS, _VALUE_PARTS

cpdef bint is_call(object parts) except -1
cpdef bint is_value(object parts) except -1
