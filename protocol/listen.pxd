# C's types for listen.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.calls cimport is_value
from protocol.lane cimport Lane
from protocol.line cimport Line

@cython.locals(lane=Lane, frame=bytes)
cpdef list next_word(Line line, object number, double until)
cpdef read(Line line, double deadline, object current)
