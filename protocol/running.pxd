# C's types for running.py; docs/design.md says what to know (What is compiled).
import cython

from protocol.flight cimport Counter
from protocol.line cimport Line
from protocol.turn cimport Current
from protocol.typed cimport Signature

cdef Py_ssize_t CREDITS, MAX_CHAIN, CALL_PARTS

cdef class Target:
    cdef public str name
    cdef public bytes label
    cdef public object function
    cdef public Counter counter
    cdef public Signature signature
    cdef public bint is_async
    cdef public int doubt

@cython.locals(current=Current, signature=Signature, running=dict, deadline=double)
cpdef run(Line line, list call, Target target, double now)
cpdef finish(Line line, Current current, Target target, object value)
cpdef fail(Line line, Current current, Target target, object error)
@cython.locals(running=dict)
cdef _objection(Line line, object number, Target target, double deadline, double now)
cdef _over(Line line, Current current, Target target)
