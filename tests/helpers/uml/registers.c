/*
 * Preloaded to User-mode Linux: a process's extended registers may be more than it knows of.
 *
 * It keeps them in buffers of a size of its own. Reading them, Linux gives as many as fit; setting them,
 * it takes all of a machine's or none. Where the machine has more (AMX), those that are missing are set
 * to what they are.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* More than any machine has: AMX makes 11,008 bytes. */
#define MOST 65536

typedef long (*call)(enum __ptrace_request, ...);

static long set_all(call next, void *pid, const struct iovec *known)
{
    static char all[MOST]; /* one thread of it traces */
    struct iovec whole = {all, MOST};

    if (known->iov_len > MOST || next(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &whole))
        return next(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, known);
    memcpy(all, known->iov_base, known->iov_len < whole.iov_len ? known->iov_len : whole.iov_len);
    return next(PTRACE_SETREGSET, pid, (void *)NT_X86_XSTATE, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
    call next = (call)dlsym(RTLD_NEXT, "ptrace");
    void *pid, *address, *data;
    va_list rest;

    va_start(rest, request);
    pid = va_arg(rest, void *);
    address = va_arg(rest, void *);
    data = va_arg(rest, void *);
    va_end(rest);
    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE)
        return set_all(next, pid, data);
    return next(request, pid, address, data);
}
