# C's types for future.py; docs/design.md says what to know (What is compiled).
from protocol.line cimport Line, Pending

cdef class Made:
    cdef public Line line
    cdef public object number, name, signature
    cdef public double deadline, started

cdef class Inbox(Pending):
    cdef Made _made
    cdef public object items, error, changed
    cdef public bint is_over
    cdef object _functions
    cdef int _taken
    cpdef bint feed(self, list parts) except -1
    cpdef end(self)
    cpdef pop(self)
    cpdef abandon(self)

cdef class Future(Pending):
    cdef Line _line
    cdef object _number, _exported, _value, _error, _callbacks
    cdef tuple _what
    cdef double _deadline, _started
    cpdef bint feed(self, list parts) except -1
    cpdef exception(self, object timeout=*)
    cdef _answer(self, object value)
    cdef _finish(self, object value, object error)
