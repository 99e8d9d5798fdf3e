# C's types for gathering.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.line cimport Line
from protocol.reactor cimport Reactor
from protocol.running cimport Target, run

cdef int DOUBT

cdef class Gathering:
    cdef public Line line
    cdef Reactor _reactor
    cdef double _since, _last
    cpdef begin(self, Line line)
    cpdef release(self)
    @cython.locals(now=double)
    cpdef run(self, Line line, list call, Target target)
