# C's types for calls.py; docs/design.md says what to know (What is compiled).
cpdef bint is_call(object parts) except -1
cpdef bint is_value(object parts) except -1
