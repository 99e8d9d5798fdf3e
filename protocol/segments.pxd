# C's types for segments.py; docs/design.md says what to know (What is compiled).
cdef class Segment:
    cdef object __weakref__
    cdef readonly object number, size, address, view
    cdef public set shared
    cdef public object used
    cdef dict _live
    cdef object _at_end, _unmap
    cpdef lease(self, object lease, object freed)
    cpdef offset_of(self, object array)

cpdef Segment segment_under(object array)
