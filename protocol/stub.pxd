# C's types for stub.py; docs/design.md says what to know (What is compiled).
cdef class Method:
    cdef public str service, name
    cdef public tuple what
    cdef public double timeout
    cdef public object caller
    cdef public bint waits
    cdef object _call
    cdef Method _within(self, dict keywords)
