# C's types for turn.py; docs/design.md says what to know (What is compiled).
cdef class Current:
    cdef public object led, line, number, stop, more, callbacks
    cdef public double deadline
    cdef public bint is_cancelled
    cdef public int slot
    cdef tuple _chain
    cdef tuple _led_on(self)  # a method of C's, so that no plain module is taken for this one
