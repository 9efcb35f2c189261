# cython: language_level=3
"""What becomes of the memory of a process that holds keys; secrecy.py says when.

Memory that Python gives back is overwritten. Keys pass through objects that nobody can overwrite:
text of tables, JSON, base64, and what re, json and sockets make of them on the way are immutable,
and copied as the interpreter likes. So no list of places would be complete; but all of them end in
one place, the allocator. wipe_freed() puts a hook around it, as tracemalloc does: each block gets a
header in front, and is overwritten when it is freed, or moved. Blocks from before have no header,
which is told by a word that nobody can guess, and go their old way.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdlib cimport getenv
from libc.string cimport strlen


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #include <sys/prctl.h>
    #include <sys/random.h>

    /* In front of a block: how long it may be, and the mark of its address. Keeps alignment. */
    struct header {
        size_t room;
        uintptr_t mark;
    };

    /* What pymalloc leaves to the allocator of raw memory goes there at once, under one header. */
    enum { SMALL = 512 };

    static uintptr_t secret;
    static PyMemAllocatorEx inner[3];

    static const PyMemAllocatorEx *keeper(PyMemAllocatorEx *of, size_t room)
    {
        return room + sizeof(struct header) > SMALL ? &inner[PYMEM_DOMAIN_RAW] : of;
    }

    static struct header *header_of(void *block)
    {
        struct header *header = (struct header *)block - 1;
        return block && header->mark == (secret ^ (uintptr_t)header) ? header : NULL;
    }

    static void *begin_block(struct header *header, size_t room)
    {
        if (!header)
            return NULL;
        header->room = room;
        header->mark = secret ^ (uintptr_t)header;
        return header + 1;
    }

    static void *wiping_malloc(void *of, size_t size)
    {
        const PyMemAllocatorEx *old = keeper(of, size);
        if (size > (size_t)PY_SSIZE_T_MAX - sizeof(struct header))
            return NULL;
        return begin_block(old->malloc(old->ctx, sizeof(struct header) + size), size);
    }

    static void *wiping_calloc(void *of, size_t count, size_t each)
    {
        const PyMemAllocatorEx *old;
        if (each && count > ((size_t)PY_SSIZE_T_MAX - sizeof(struct header)) / each)
            return NULL;
        old = keeper(of, count * each);
        return begin_block(
            old->calloc(old->ctx, 1, sizeof(struct header) + count * each), count * each);
    }

    static void wipe(void *from, size_t size)
    {
        memset(from, 0, size);
        /* Or the compiler would leave it out before a free. */
        __asm__ __volatile__("" : : "r"(from) : "memory");
    }

    static void wiping_free(void *of, void *block)
    {
        const PyMemAllocatorEx *old = of;
        struct header *header = header_of(block);
        if (header) {
            old = keeper(of, header->room);
            wipe(header, sizeof(*header) + header->room);
            block = header;
        }
        old->free(old->ctx, block);
    }

    static void *wiping_realloc(void *of, void *block, size_t size)
    {
        PyMemAllocatorEx *old = of;
        struct header *header = header_of(block);
        void *moved;
        if (block && !header)
            return old->realloc(old->ctx, block, size);
        if (header && size <= header->room && size >= header->room / 2) {
            wipe((char *)block + size, header->room - size);
            return block;
        }
        moved = wiping_malloc(of, size);
        if (moved && header) {
            memcpy(moved, block, header->room < size ? header->room : size);
            wiping_free(of, block);
        }
        return moved;
    }

    static int begin_wiping(void)
    {
        static const PyMemAllocatorDomain domains[] = {
            PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ };
        int each;

        if (secret)
            return 0;
        if (getrandom(&secret, sizeof(secret), 0) != sizeof(secret) || !secret)
            return -1;
        for (each = 0; each < 3; each++)
            PyMem_GetAllocator(domains[each], &inner[each]);
        for (each = 0; each < 3; each++) {
            PyMemAllocatorEx hook = {
                &inner[each], wiping_malloc, wiping_calloc, wiping_realloc, wiping_free };
            PyMem_SetAllocator(domains[each], &hook);
        }
        return 0;
    }

    /* What has returned lies below the caller: more of it than any call of ours was deep. */
    enum { DEPTH = 1 << 16 };

    static __attribute__((noinline)) void wipe_below(void)
    {
        char frame[DEPTH];
        wipe(frame, sizeof(frame));
    }
    """
    int begin_wiping()
    void wipe(void *data, size_t size)
    void wipe_below()
    int prctl(int option, unsigned long value)
    int PR_SET_DUMPABLE


def wipe_freed() -> None:
    """From now on, overwrite what is freed; the second time nothing happens.

    Raises: OSError if there are no random bytes.
    """
    if begin_wiping():
        raise OSError("no random bytes to be had")


def wipe_stack() -> None:
    """Overwrite what calls that have returned have left on the stack, such as decoded base64."""
    wipe_below()


def wipe_variable(bytes name) -> None:
    """Overwrite the value of a variable in the environment, where the kernel shows it."""
    cdef char *value = getenv(name)
    if value:
        wipe(value, strlen(value))


def wipe_bytes(bytes data) -> None:
    """Overwrite bytes that nobody uses any more, and that are older than wipe_freed()."""
    wipe(PyBytes_AS_STRING(data), len(data))


def set_dumpable(bint may_be) -> None:
    """Whether the kernel may dump this process, and its user look into it."""
    prctl(PR_SET_DUMPABLE, may_be)
