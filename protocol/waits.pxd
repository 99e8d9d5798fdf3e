# C's types for waits.py; docs/design.md says what to know (What is compiled).
from protocol.line cimport Line
from protocol.listen cimport read

cpdef attend(Line line, object number, double deadline, object is_over)
cpdef settle(Line line, object number)
