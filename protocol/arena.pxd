# C's types for arena.py; docs/design.md says what to know (What is compiled).
cdef class Arena:
    cdef object __weakref__
    cdef object _node, _getpid, _pid
    cdef dict _live, _incoming, _ends
    cdef set _liars
    cpdef incoming(self, object lane, object number, object peer=*)
