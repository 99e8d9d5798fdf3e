# C's types for exchange.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.carrier cimport are_plain
from protocol.line cimport Line
from protocol.listen cimport next_word

cdef Py_ssize_t MAX_CHAIN
cdef double PATIENCE_S

cpdef tuple begin(Line line, tuple what, tuple arguments, dict keywords, double deadline, tuple chain, double now)

@cython.locals(word=list, soon=double)
cpdef exchange(Line line, tuple what, tuple arguments, dict keywords, double deadline, tuple chain, double now)
