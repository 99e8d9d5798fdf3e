# C's types for aio.py; docs/design.md says what to know (What is compiled).
from protocol.exchange cimport begin
from protocol.future cimport Inbox, Made
from protocol.line cimport Line, Pending

cdef class Answer(Pending):
    cdef public Line line
    cdef public object number, exported
    cdef public tuple what
    cdef public double deadline, started
    cdef object _future
    cpdef bint feed(self, list parts) except -1
    cdef _answer(self, object value)

cdef class Awaited:
    cdef object _loop, _sent
    cdef public double due
    cpdef gather(self, Line line)

cdef class AioCall:
    cdef object _method, _steps
    cdef tuple _arguments
    cdef dict _keywords
    cdef _begin(self)
    cdef _begun(self)
