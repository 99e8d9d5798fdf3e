# C's types for pool.py; docs/design.md says what to know (What is compiled).
cdef class Pool:
    cdef public Py_ssize_t held
    cdef Py_ssize_t _quota, _most, _total, _spare
    cdef dict _sizes, _leases, _lent, _free
    cpdef lend(self, object lease, object number, object size)
    cpdef list returned(self, object leases)
