/*
 * A disk that fails when it is told to: preloaded into a gateway by disks.py, it stands before the C library's calls that write.
 *
 * What is to fail stands in a file that both processes map (FAULT_CONTROL). Each path that is opened for writing is told, a line
 * each, in another one (FAULT_PATHS).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* disks.py writes and reads the same, as "5i236s". */
struct control {
    int fault;       /* what fails, as an errno; 0 where nothing does */
    int spared;      /* calls that pass before the first that fails */
    int seen;        /* calls so far */
    int failed;      /* of them, those that failed */
    int lasts;       /* whether more than one fails */
    char part[236];  /* part of the paths that it is about */
};

static struct control *control;
static int paths = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("FAULT_CONTROL"), *told = getenv("FAULT_PATHS");
    int descriptor = name ? REAL(open)(name, O_RDWR | O_CLOEXEC) : -1;
    void *mapped = descriptor < 0 ? MAP_FAILED
                                  : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    control = mapped == MAP_FAILED ? NULL : mapped;
    paths = told ? REAL(open)(told, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
}

static int fails(const char *path)
{
    if (!control || !control->fault || !path || !strstr(path, control->part))
        return 0;
    int before = __atomic_fetch_add(&control->seen, 1, __ATOMIC_SEQ_CST);
    if (before < control->spared || (before > control->spared && !control->lasts))
        return 0;
    __atomic_fetch_add(&control->failed, 1, __ATOMIC_SEQ_CST);
    errno = control->fault;
    return 1;
}

static int failsAt(int descriptor)
{
    char link[64], path[PATH_MAX];
    if (!control || !control->fault)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(path);
}

/* A disk that becomes full takes the beginning of what is written. */
static size_t roomFor(size_t size)
{
    return control->fault == ENOSPC && control->failed == 1 ? size / 2 : 0;
}

/* A full disk still has what is there already. */
static int failsToMake(const char *path)
{
    return !(control && control->fault == ENOSPC && !access(path, F_OK)) && fails(path);
}

static int failsToOpen(const char *path, int flags)
{
    if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_CREAT))
        return 0;
    if (paths >= 0 && strncmp(path, "/dev/", 5))
        dprintf(paths, "%s\n", path);
    return failsToMake(path);
}

#define OPEN(name)                                                                                                             \
    int name(const char *path, int flags, ...)                                                                                 \
    {                                                                                                                          \
        va_list rest;                                                                                                          \
        va_start(rest, flags);                                                                                                 \
        int mode = flags & O_CREAT ? va_arg(rest, int) : 0;                                                                    \
        va_end(rest);                                                                                                          \
        return failsToOpen(path, flags) ? -1 : REAL(name)(path, flags, mode);                                                  \
    }
#define OPENAT(name)                                                                                                           \
    int name(int folder, const char *path, int flags, ...)                                                                     \
    {                                                                                                                          \
        va_list rest;                                                                                                          \
        va_start(rest, flags);                                                                                                 \
        int mode = flags & O_CREAT ? va_arg(rest, int) : 0;                                                                    \
        va_end(rest);                                                                                                          \
        return failsToOpen(path, flags) ? -1 : REAL(name)(folder, path, flags, mode);                                          \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void *data, size_t size)
{
    if (!failsAt(descriptor))
        return REAL(write)(descriptor, data, size);
    size_t room = roomFor(size);
    return room ? REAL(write)(descriptor, data, room) : -1;
}

ssize_t writev(int descriptor, const struct iovec *pieces, int count)
{
    return failsAt(descriptor) ? -1 : REAL(writev)(descriptor, pieces, count);
}

#define PWRITE(name, offset)                                                                                                   \
    ssize_t name(int descriptor, const void *data, size_t size, offset place)                                                  \
    {                                                                                                                          \
        if (!failsAt(descriptor))                                                                                              \
            return REAL(name)(descriptor, data, size, place);                                                                  \
        size_t room = roomFor(size);                                                                                           \
        return room ? REAL(name)(descriptor, data, room, place) : -1;                                                          \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define FAILS(name, parameters, where, arguments)                                                                              \
    int name parameters { return where ? -1 : REAL(name) arguments; }
FAILS(ftruncate, (int descriptor, off_t size), failsAt(descriptor), (descriptor, size))
FAILS(ftruncate64, (int descriptor, off64_t size), failsAt(descriptor), (descriptor, size))
FAILS(fsync, (int descriptor), failsAt(descriptor), (descriptor))
FAILS(fdatasync, (int descriptor), failsAt(descriptor), (descriptor))
FAILS(rename, (const char *from, const char *to), fails(to), (from, to))
FAILS(mkdir, (const char *path, mode_t mode), failsToMake(path), (path, mode))
