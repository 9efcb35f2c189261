/*
 * Preloaded: calls on /dev/fuse fail now and then, as kernels may.
 *
 * DEVICE_FAULTS is "EVERY BURST WORDS": after each EVERY calls that went to the device, BURST fail,
 * with the errnos of their kind in turn. WORDS say which calls: r for those that take requests, w
 * for those that send replies.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

static const int taking[] = { EINTR, EAGAIN, ENOENT, ENOMEM, EIO, EINVAL, EFAULT, EPERM };
static const int sending[] = { EINTR, EAGAIN, ENOMEM, EIO, EINVAL, EFAULT };

struct kind {
    const char *word;
    const int *errnos;
    int errno_count;
    int calls, faults;
};
static struct kind take = { "r", taking, sizeof(taking) / sizeof(*taking), 0, 0 };
static struct kind send_ = { "w", sending, sizeof(sending) / sizeof(*sending), 0, 0 };

static int is_the_device(int fd)
{
    struct stat status;
    int before = errno, is;

    is = !fstat(fd, &status) && S_ISCHR(status.st_mode) && status.st_rdev == makedev(10, 229);
    errno = before;
    return is;
}

static int fails(int fd, struct kind *kind)
{
    static int every, burst;
    static char words[8];
    int call;

    if (!every && sscanf(getenv("DEVICE_FAULTS"), "%d %d %7s", &every, &burst, words) != 3)
        abort();
    if (!strstr(words, kind->word) || !is_the_device(fd))
        return 0;
    call = __atomic_fetch_add(&kind->calls, 1, __ATOMIC_RELAXED) % (every + burst);
    if (call < every)
        return 0;
    call = __atomic_fetch_add(&kind->faults, 1, __ATOMIC_RELAXED);
    errno = kind->errnos[call / burst % kind->errno_count];
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t read(int fd, void *buffer, size_t size)
{
    return fails(fd, &take) ? -1 : NEXT(read)(fd, buffer, size);
}

ssize_t splice(int from, off64_t *at, int to, off64_t *to_at, size_t size, unsigned int flags)
{
    return fails(from, &take) ? -1 : NEXT(splice)(from, at, to, to_at, size, flags);
}

ssize_t write(int fd, const void *buffer, size_t size)
{
    return fails(fd, &send_) ? -1 : NEXT(write)(fd, buffer, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return fails(fd, &send_) ? -1 : NEXT(writev)(fd, parts, count);
}
