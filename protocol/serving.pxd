# C's types for serving.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.gathering cimport Gathering
from protocol.lane cimport Lane
from protocol.line cimport Line
from protocol.running cimport Target, run

cdef Py_ssize_t CREDITS

cdef class LaneServer:
    cdef public bint is_reentrant
    cdef public Py_ssize_t served
    cdef object _reactor, _servant, _home, _closed, _ready
    cdef public object _queued
    cdef Gathering _gathering
    cdef public set _lines
    cdef dict _targets
    cdef public int _running
    cdef bint _is_starting
    cdef double _pace_s, _last_end
    @cython.locals(lane=Lane, frame=bytes)
    cpdef _read(self, Line line)
    @cython.locals(lane=Lane, left=int, frame=bytes)
    cdef _take_many(self, Line line, bytes first)
    @cython.locals(target=Target)
    cpdef _take(self, Line line, list call)
