# C's types for caller.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.exchange cimport begin, exchange
from protocol.line cimport Line
from protocol.stub cimport Method
from protocol.turn cimport Current

cdef Py_ssize_t CREDITS

cdef class Caller:
    cdef object __weakref__
    cdef public object connector, lines, rate, _aio
    cdef public dict _throttles
    @cython.locals(current=Current, line=Line, deadline=double, now=double)
    cpdef call(self, Method method, tuple arguments, dict keywords)
    @cython.locals(current=Current, line=Line, deadline=double, now=double)
    cpdef submit(self, Method method, tuple arguments, dict keywords)
