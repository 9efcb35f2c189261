/* dmsetup, quickly: hands its call to the process of fusedm/dmsetup/server.py, or becomes the script.
 *
 * The interpreter of the script that `fusedm shim` writes: argv is this program, the script, and
 * the words of dmsetup. What else a call consists of (words, environment, folder, limits, who is
 * asking) the server reads from /proc, where the kernel tells the truth about it. What is sent are
 * the descriptors. Until the server has answered GO nothing has been done, and whatever is
 * unusual is left to the script, which does the same by starting Python.
 *
 * Change together with server.py: the name of the socket, the messages.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { GO = 'G', DONE = 'D' };

/* The kernel's SCM_MAX_FD. Who has more open is served by the script. */
enum { MAX_DESCRIPTORS = 253 };

static int server = -1;

static _Noreturn void become_script(char **argv) {
    argv[0] = "sh";
    execv("/bin/sh", argv);
    fprintf(stderr, "dmsetup: /bin/sh: %s\n", strerror(errno));
    _exit(1);
}

/* FNV-1a, over the text with its closing NUL. */
static uint64_t hash(uint64_t before, const char *text) {
    do {
        before = (before ^ (unsigned char)*text) * 0x100000001b3;
    } while (*text++);
    return before;
}

static int connect_to(const char *folder, const char *below, const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s%s/%s", folder, below, name);
    if (length >= (int)sizeof address.sun_path)
        return -1;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct ucred peer = {.uid = -1};
    socklen_t size = sizeof peer;
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid())
        return fd;
    close(fd);
    return -1;
}

/* The server of this user, this installation and this folder of nodes, in the run folders that
 * host/run_folder.py has first. */
static int find_server(const char *program) {
    struct stat info;
    const char *nodes = getenv("DM_DEV_DIR");
    const char *shared[] = {getenv("TMPDIR"), "/tmp"}, *runtime = getenv("XDG_RUNTIME_DIR");
    char name[64], own[64], below[32];
    int fd = -1;
    if (stat(program, &info) != 0)
        return -1;
    snprintf(own, sizeof own, "%ju:%ju", (uintmax_t)info.st_dev, (uintmax_t)info.st_ino);
    uint64_t key = hash(hash(0xcbf29ce484222325, nodes ? nodes : ""), own);
    snprintf(name, sizeof name, "%016jx.dmsetup", (uintmax_t)key);
    if (geteuid() == 0)
        fd = connect_to("/run", "/fusedm", name);
    if (fd < 0 && runtime && *runtime == '/')
        fd = connect_to(runtime, "/fusedm", name);
    snprintf(below, sizeof below, "/fusedm-%ju", (uintmax_t)geteuid());
    for (int i = 0; fd < 0 && i < 2; i++)
        if (shared[i] && *shared[i] == '/')
            fd = connect_to(shared[i], below, name);
    return fd;
}

/* Send every descriptor there is, with its number. */
static int send_descriptors(void) {
    int numbers[MAX_DESCRIPTORS];
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (!folder)
        return -1;
    for (struct dirent *entry; (entry = readdir(folder));) {
        int number = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || number == server || number == dirfd(folder))
            continue;
        if (count == MAX_DESCRIPTORS)
            return -1;
        numbers[count++] = number;
    }
    closedir(folder);
    size_t size = count * sizeof(int);
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof numbers)];
    } control = {.header = {CMSG_LEN(size), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), numbers, size);
    char nothing = 0;
    struct iovec data = {count ? (void *)numbers : &nothing, count ? size : 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (count) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(size);
    }
    return sendmsg(server, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* The server's process raises the interrupt, undoes what has to be undone, and tells how it ended. */
static void pass_interrupt(int number) {
    int before = errno;
    (void)number;
    send(server, "", 1, MSG_NOSIGNAL);
    errno = before;
}

/* A server that has left something unread resets the connection: that is told once, before what it
 * had sent. */
static ssize_t receive(unsigned char *message, size_t size) {
    ssize_t got;
    do {
        got = recv(server, message, size, 0);
    } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    return got;
}

int main(int argc, char **argv) {
    unsigned char message[2];
    if (argc < 2) {
        fprintf(stderr, "%s: the interpreter of what `fusedm shim` writes\n", argv[0]);
        return 2;
    }
    server = find_server(argv[0]);
    if (server < 0 || send_descriptors() != 0 || receive(message, sizeof message) != 1 ||
        message[0] != GO)
        become_script(argv);
    struct sigaction interrupt = {.sa_handler = pass_interrupt}, before;
    if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(SIGINT, &interrupt, NULL);
    if (receive(message, sizeof message) != 2 || message[0] != DONE) {
        fprintf(stderr, "dmsetup: the process that did this has been killed\nCommand failed.\n");
        return 1;
    }
    return message[1];
}
