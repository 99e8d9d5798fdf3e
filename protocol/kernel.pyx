"""What a call asks of the kernel, and the one thing it reads of a frame: by the shortest way.

The same as kernel.py, which says more of each, except that what would lie outside of the bytes is
an IndexError. Nothing but `wait` lets other threads run: the others' calls return at once, and
taking turns costs more than they do. So nothing may go on for as long as a peer sends.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EINTR, errno
from libc.math cimport ceil
from libc.stdint cimport INT32_MAX, uint32_t
from libc.string cimport memcpy

cdef extern from "unistd.h" nogil:
    ssize_t c_read "read"(int fd, void *buffer, size_t most)
    ssize_t c_write "write"(int fd, const void *buffer, size_t count)

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t writev(int fd, const iovec *parts, int count)

cdef extern from "arpa/inet.h" nogil:
    uint32_t htonl(uint32_t number)
    uint32_t ntohl(uint32_t number)

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epoll, epoll_event *events, int most, int milliseconds)

cdef extern from "time.h" nogil:
    enum: CLOCK_MONOTONIC
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)

cdef enum:
    HEAD = 4
    FEW = 512
    AT_ONCE = 32


cdef int failed() except -1:
    """Say what went wrong, or that it was a signal and can be tried again."""
    if errno == EINTR:
        PyErr_CheckSignals()
    else:
        PyErr_SetFromErrno(OSError)
    return 0


cdef const char *bytes_of(object data, Py_ssize_t *size) except NULL:
    """Give where bytes lie, and how many; raises TypeError for what is neither of their types."""
    if type(data) is bytes:
        size[0] = PyBytes_GET_SIZE(data)
        return PyBytes_AS_STRING(data)
    size[0] = PyByteArray_GET_SIZE(<bytearray?>data)
    return PyByteArray_AS_STRING(data)


cpdef bytes read(int fd, Py_ssize_t most):
    """Read what is there, so many bytes at most; raises as `os.read`."""
    cdef char few[FEW]
    cdef bytes many
    cdef char *buffer = few
    cdef ssize_t count
    if most > FEW:
        many = PyBytes_FromStringAndSize(NULL, most)
        buffer = PyBytes_AS_STRING(many)
    count = c_read(fd, buffer, most)
    while count < 0:
        failed()
        count = c_read(fd, buffer, most)
    return PyBytes_FromStringAndSize(buffer, count)


cpdef Py_ssize_t write(int fd, object data) except -1:
    """Write what there is room for; say how many bytes. Raises as `os.write`."""
    cdef Py_ssize_t size
    cdef const char *start
    cdef ssize_t count
    while True:
        start = bytes_of(data, &size)  # anew: a signal's handler may have changed it
        count = c_write(fd, start, size)
        if count >= 0:
            return count
        failed()


cpdef Py_ssize_t write_frame(int fd, bytes body) except -1:
    """Write `u32 length, body`, or as much of it as there is room for; as `write`."""
    cdef char few[FEW]
    cdef iovec parts[2]
    cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
    cdef uint32_t head = htonl(<uint32_t>size)
    cdef ssize_t count
    parts[0].iov_base, parts[0].iov_len = &head, HEAD
    parts[1].iov_base, parts[1].iov_len = PyBytes_AS_STRING(body), size
    while True:
        if size <= FEW - HEAD:
            memcpy(few, &head, HEAD)
            memcpy(few + HEAD, PyBytes_AS_STRING(body), size)
            count = c_write(fd, few, HEAD + size)
        else:
            count = writev(fd, parts, 2)
        if count >= 0:
            return count
        failed()


cpdef Py_ssize_t length_at(object data, Py_ssize_t at) except -1:
    """Give the length of a frame's body, from the four bytes that lie there."""
    cdef Py_ssize_t size
    cdef const char *start = bytes_of(data, &size)
    cdef uint32_t length
    if at < 0 or at + HEAD > size:
        raise IndexError(f"no length at {at} of {size} bytes")
    memcpy(&length, start + at, HEAD)
    return ntohl(length)


cpdef bytes head_of(bytes body):
    """Give the four bytes that lie before a frame's body: its length."""
    cdef uint32_t head = htonl(<uint32_t>PyBytes_GET_SIZE(body))
    return PyBytes_FromStringAndSize(<char *>&head, HEAD)


cpdef bytes cut(object data, Py_ssize_t start, Py_ssize_t end):
    """Give some of the bytes."""
    cdef Py_ssize_t size
    cdef const char *first = bytes_of(data, &size)
    if not 0 <= start <= end <= size:
        raise IndexError(f"no bytes from {start} to {end} among {size}")
    return PyBytes_FromStringAndSize(first + start, end - start)


cpdef put(unsigned char[::1] page, Py_ssize_t at, bytes data):
    """Write bytes into memory that others read."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if not 0 <= at <= page.shape[0] - size:
        raise IndexError(f"no room for {size} bytes at {at} of {page.shape[0]}")
    memcpy(&page[at], PyBytes_AS_STRING(data), size)


cpdef list wait(object epoll, double longest_s):
    """Wait until something has happened, or the time is up; less than 0 is for ever."""
    cdef epoll_event events[AT_ONCE]
    cdef int fd
    cdef double until = monotonic() + longest_s if longest_s > 0 else 0
    cdef int milliseconds = in_milliseconds(longest_s)
    cdef int count, place
    if longest_s != longest_s:
        raise ValueError("no time to wait for: not a number")
    PyErr_CheckSignals()  # of one that has come just now the kernel would not wake us
    while True:
        fd = epoll.fileno()  # anew: a signal's handler may have closed it
        with nogil:
            count = epoll_wait(fd, events, AT_ONCE, milliseconds)
        if count >= 0:
            break
        failed()
        if longest_s > 0:
            milliseconds = in_milliseconds(max(0, until - monotonic()))
    return [(events[place].data.fd, events[place].events) for place in range(count)]


cdef int in_milliseconds(double seconds) noexcept:
    """Give a time as `epoll_wait` takes it, rather too long than too short."""
    return -1 if seconds < 0 else <int>min(ceil(seconds * 1e3), <double>INT32_MAX)


cdef double monotonic() noexcept:
    """Give `time.monotonic()`, seconds."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9
