# C's types for arrays.py; docs/design.md says what to know (What is compiled).
cpdef bint is_numpy(object value) except -1
cpdef bint is_array(object value) except -1
cdef bint _are_lengths(list shape) except -1
cpdef describe(object dtype, object dimensions)
cpdef from_extension(bytes body)
cpdef build(object memory, object begin, object size, object description, object shape, object order=*)
cpdef new_extension(object code, bytes body)
