# cython: language_level=3
"""What stands before libfuse's receive in this process, for pyfuse3's sake.

pyfuse3 ends the mount at every errno of it but EINTR, at which it looks again. The kernel may have
others: EAGAIN where what was there has been taken back (a client was killed, or the request that an
INTERRUPT was for has been answered), and errors that are gone the next time. So they become EINTR
here; only what is left after many tries in a row is told. That the mount is gone is no error to
libfuse.

Loaded globally (libfuse.py), the name below is found before libfuse's own.
"""

cdef extern from *:
    """
    #include <dlfcn.h>
    #include <errno.h>

    /* One thread calls it. */
    enum { RECEIVE_TRIES = 1000 };

    int fuse_version(void);

    int fuse_session_receive_buf(void *session, void *buffer)
    {
        static int (*receive)(void *, void *);
        static int tries;
        int result;

        if (!receive)
            *(void **)&receive = dlsym(RTLD_NEXT, "fuse_session_receive_buf");
        result = receive(session, buffer);
        if (result >= 0 || result == -EAGAIN || result == -EINTR) {
            tries = 0;
            return result == -EAGAIN ? -EINTR : result;
        }
        return ++tries < RECEIVE_TRIES ? -EINTR : result;
    }
    """
    int fuse_version()

# A linker leaves out libraries that nothing is used of, and libfuse has to be found behind this.
LIBFUSE_VERSION = fuse_version()
