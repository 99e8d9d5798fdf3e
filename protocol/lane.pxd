# C's types for lane.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.kernel cimport cut, head_of, length_at, read, write, write_frame

cdef Py_ssize_t MAX_MESSAGE

cdef Py_ssize_t _HEAD, _FEW, _CHUNK, _FULL

cdef class Lane:
    cdef public int fd
    cdef public object rest
    cdef public bytearray unsent
    cdef Py_ssize_t _ask, _at
    cdef bytearray _gathered
    cdef bint _is_open
    @cython.locals(length=Py_ssize_t, sent=Py_ssize_t)
    cpdef bint send(self, bytes body) except -1
    cpdef bint send_both(self, bytes first, bytes second) except -1
    @cython.locals(sent=Py_ssize_t)
    cdef bint _write(self, object frames) except -1
    cdef bint _keep(self, object rest) except -1
    @cython.locals(length=Py_ssize_t, chunk=bytes, frame=bytes)
    cpdef bytes receive(self)
    @cython.locals(at=Py_ssize_t, known=Py_ssize_t, start=Py_ssize_t, length=Py_ssize_t, end=Py_ssize_t)
    cpdef bytes next(self)
    @cython.locals(left=Py_ssize_t)
    cpdef bint has_more(self) except -1
    cdef bytes _with_more(self, bytes chunk)
    cdef _add(self, bytes chunk)
