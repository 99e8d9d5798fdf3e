# C's types for reactor.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.kernel cimport wait

cdef int _WRITABLE, _ANYTHING_ELSE
cdef double _LONGEST_S

cdef class Timer:
    cdef public double when
    cdef public object callback

cdef class Reactor:
    cdef public object _epoll
    cdef object _order, _again
    cdef public list _timers
    cdef dict _readers, _writers, _zmq
    cdef bint _is_nudged
    cdef public bint needs_asyncio
    cdef public object meanwhile, urgent, loop
    cdef public dict unsent
    @cython.locals(happened=int)
    cpdef turn(self, object longest_s=*)
    @cython.locals(left=double, happenings=list, ready=int, happened=int)
    cpdef bint wait_for(self, int fd, double deadline) except -1
    cpdef send_unsent(self)
    cdef object _wait_s(self, object longest_s)
    cdef object _next_due(self)
    cdef _run_due(self, double now)
