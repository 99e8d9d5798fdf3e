# C's types for writer.py; docs/design.md says what to know (What is compiled).
from protocol.line cimport Line
from protocol.turn cimport Current

cdef class Writer:
    cdef Line _line
    cdef Current _current
    cdef object _items, _write, _finish, _fail, _timer
    cdef list _kept
    cdef int _credit
    cdef bint _is_busy, _is_over, _is_queued, _is_later
    cdef bint _has_to_wait(self) except -1
    cdef _write_on(self)
    cdef bint _next(self) except -1
    cdef _end(self)
