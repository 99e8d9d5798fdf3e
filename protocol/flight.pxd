# C's types for flight.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.kernel cimport put

cdef int _CALLS, _ERRORS, _EVENTS, _BUSY_WORD, _CALL_WORD, _WORDS, _DEADLINE, _CALLER, _NAME

cdef class Counter:
    cpdef int enter(self, object caller, object number, double deadline, bytes label) except -2
    cpdef streams(self, int slot)
    cpdef awaits(self, int slot)
    cpdef succeeded(self)
    cpdef failed(self)
    cpdef retract(self)
    cpdef leave(self, int slot)

cdef class FlightWriter(Counter):
    cdef unsigned char[::1] _page
    cdef unsigned long long[::1] _words
    cdef double[::1] _moments
    cdef list _free
    @cython.locals(slot=int, word=int)
    cpdef int enter(self, object caller, object number, double deadline, bytes label) except -2
