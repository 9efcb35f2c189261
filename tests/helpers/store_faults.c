/*
 * Preloaded: calls on the file of one store fail, do less than they were asked to, or hang, as told
 * in a page of memory that the test shares; and it is counted there what was called.
 *
 * STORE_FAULTS is the path of that page, a file. tests/helpers/store_faults.py writes it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* A read that may not wait (RWF_NOWAIT) is of two kinds. */
enum { READ, WRITE, SYNC, PUNCH, NOWAIT, KINDS };

/* What is to happen to calls of a kind: nothing to the first `skip`, then to `count` (-1: to all). */
struct rule {
    int32_t skip, count;
    int32_t error; /* the errno; 0: the call is made, */
    int32_t most;  /* but of so many bytes */
    int32_t calls, struck;
    int32_t hold, held; /* whether calls hang, and how many do */
};

/* Writes that have ended are numbered; durable is the last that had before an fdatasync began. */
struct page {
    uint64_t device, inode; /* the store; inode 0: a block device of this number */
    struct rule rules[KINDS];
    int32_t written, durable;
};

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static struct page *the_page(void)
{
    static struct page *page;
    struct page *mapped;
    int fd;

    if (page)
        return page;
    fd = open(getenv("STORE_FAULTS"), O_RDWR | O_CLOEXEC);
    mapped = mmap(NULL, sizeof(*mapped), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        abort();
    close(fd);
    return page = mapped;
}

static int is_the_store(int fd)
{
    struct page *page = the_page();
    struct stat status;
    int before = errno, is;

    is = !fstat(fd, &status) &&
         (page->inode ? status.st_dev == page->device && status.st_ino == page->inode
                      : S_ISBLK(status.st_mode) && status.st_rdev == page->device);
    errno = before;
    return is;
}

/* The rule if it strikes this call; hangs first where it is told to, unless it may not. */
static struct rule *strikes(int kind, int may_hang)
{
    struct rule *rule = &the_page()->rules[kind];

    __atomic_fetch_add(&rule->calls, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&rule->hold, __ATOMIC_SEQ_CST) && may_hang) {
        __atomic_fetch_add(&rule->held, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&rule->hold, __ATOMIC_SEQ_CST))
            usleep(1000);
        __atomic_fetch_sub(&rule->held, 1, __ATOMIC_SEQ_CST);
    }
    if (!__atomic_load_n(&rule->count, __ATOMIC_SEQ_CST))
        return NULL;
    if (__atomic_fetch_sub(&rule->skip, 1, __ATOMIC_SEQ_CST) > 0)
        return NULL;
    if (rule->count > 0 && __atomic_fetch_sub(&rule->count, 1, __ATOMIC_SEQ_CST) <= 0) {
        rule->count = 0;
        return NULL;
    }
    __atomic_fetch_add(&rule->struck, 1, __ATOMIC_SEQ_CST);
    return rule;
}

static ssize_t call(int kind, int fd, const struct iovec *parts, int count, off_t at, int flags)
{
    return kind == READ ? NEXT(preadv64v2)(fd, parts, count, at, flags)
                        : NEXT(pwritev64v2)(fd, parts, count, at, flags);
}

static ssize_t transfer(int kind, int fd, const struct iovec *parts, int count, off_t at, int flags)
{
    struct rule *rule;
    ssize_t done;

    if (!is_the_store(fd))
        return call(kind, fd, parts, count, at, flags);
    if (flags & RWF_NOWAIT && the_page()->rules[kind].hold) {
        errno = EAGAIN;
        return -1;
    }
    rule = flags & RWF_NOWAIT ? strikes(NOWAIT, 0) : NULL;
    rule = rule ? rule : strikes(kind, !(flags & RWF_NOWAIT));
    if (rule && rule->error) {
        errno = rule->error;
        return -1;
    }
    if (rule && parts->iov_len > (size_t)rule->most) {
        struct iovec less = { parts->iov_base, rule->most };

        done = rule->most ? call(kind, fd, &less, 1, at, flags) : 0;
    } else {
        done = call(kind, fd, parts, rule ? 1 : count, at, flags);
    }
    if (kind == WRITE && done > 0 && !(flags & (RWF_DSYNC | RWF_SYNC)))
        __atomic_fetch_add(&the_page()->written, 1, __ATOMIC_SEQ_CST);
    return done;
}

/* Any other call: whether it fails. */
static int fails(int kind, int fd)
{
    struct rule *rule = is_the_store(fd) ? strikes(kind, 1) : NULL;

    if (rule)
        errno = rule->error;
    return !!rule;
}

static int synced(int (*sync)(int), int fd)
{
    struct page *page = the_page();
    int32_t before = __atomic_load_n(&page->written, __ATOMIC_SEQ_CST), last;
    int code;

    if (fails(SYNC, fd))
        return -1;
    code = sync(fd);
    last = page->durable;
    while (!code && is_the_store(fd) && last < before)
        __atomic_compare_exchange_n(&page->durable, &last, before, 0, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST);
    return code;
}

#define TRANSFERS(kind, name, suffix, with_flags)                                                  \
    ssize_t p##name##suffix(int fd, VOID *buffer, size_t size, off64_t at)                         \
    {                                                                                              \
        struct iovec part = { (void *)buffer, size };                                              \
        return transfer(kind, fd, &part, 1, at, 0);                                                \
    }                                                                                              \
    ssize_t p##name##v##suffix(int fd, const struct iovec *parts, int count, off64_t at)           \
    {                                                                                              \
        return transfer(kind, fd, parts, count, at, 0);                                            \
    }                                                                                              \
    ssize_t with_flags(int fd, const struct iovec *parts, int count, off64_t at, int flags)        \
    {                                                                                              \
        return transfer(kind, fd, parts, count, at, flags);                                        \
    }

#define VOID void
TRANSFERS(READ, read, , preadv2)
TRANSFERS(READ, read, 64, preadv64v2)
#undef VOID
#define VOID const void
TRANSFERS(WRITE, write, , pwritev2)
TRANSFERS(WRITE, write, 64, pwritev64v2)

int fdatasync(int fd)
{
    return synced(NEXT(fdatasync), fd);
}

int fsync(int fd)
{
    return synced(NEXT(fsync), fd);
}

int fallocate(int fd, int mode, off_t at, off_t length)
{
    return fails(PUNCH, fd) ? -1 : NEXT(fallocate)(fd, mode, at, length);
}

int fallocate64(int fd, int mode, off64_t at, off64_t length)
{
    return fails(PUNCH, fd) ? -1 : NEXT(fallocate64)(fd, mode, at, length);
}
