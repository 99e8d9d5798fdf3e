# C's types for line.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.calls cimport is_call, is_value
from protocol.carrier cimport Carrier
from protocol.lane cimport Lane
from protocol.reactor cimport Reactor

cdef Py_ssize_t LARGE

cdef class Pending:
    cpdef bint feed(self, list parts) except -1

cdef class Line:
    cdef object __weakref__
    cdef public Lane lane
    cdef public Carrier carrier
    cdef public Reactor reactor
    cdef public object number, peer, peer_name, home, owner, loop, awaited
    cdef public object serve, blocked, lost, unread, ended, unwanted
    cdef public set in_flight
    cdef public object held, abandoned
    cdef public dict functions, pending, early, running, waiting
    cdef public list exported, adopted, when_room, when_flushed
    cdef public set idempotent, told
    cdef public double used
    cdef public Py_ssize_t size
    cdef public bint is_calling, is_sending, is_looking, is_lost
    cdef public object _wait
    cpdef bint wait(self, double until) except -1
    @cython.locals(carrier=Carrier, frame=bytes)
    cpdef bint send(self, tuple parts) except -1
    @cython.locals(carrier=Carrier, frame=bytes)
    cpdef bint send_plain(self, tuple parts) except -1
    @cython.locals(carrier=Carrier)
    cdef bint _leave(self, bytes frame) except -1
    cpdef unpack(self, bytes frame)
    cpdef sort(self, object parts, Py_ssize_t size)
    @cython.locals(pending=Pending)
    cpdef hear(self, list parts)
    @cython.locals(lane=Lane, frame=bytes, one=Pending)
    cpdef take_in(self)
