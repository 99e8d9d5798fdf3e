# What kernel.py and kernel.pyx give to other compiled modules.
cpdef bytes read(int fd, Py_ssize_t most)
cpdef Py_ssize_t write(int fd, object data) except -1
cpdef Py_ssize_t write_frame(int fd, bytes body) except -1
cpdef Py_ssize_t length_at(object data, Py_ssize_t at) except -1
cpdef bytes head_of(bytes body)
cpdef bytes cut(object data, Py_ssize_t start, Py_ssize_t end)
cpdef put(unsigned char[::1] page, Py_ssize_t at, bytes data)
cpdef list wait(object epoll, double longest_s)
