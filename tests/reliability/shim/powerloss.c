/* A recorder between a program and its files: an LD_PRELOAD library that writes down, in the order
 * in which they happened, every change below one directory and every sync of it. From that log
 * lib/disk.mjs tells what a power loss at any moment may leave behind, and makes a directory of it.
 * It also makes calls fail on demand.
 *
 *   POWERLOSS_DIR=DIR    what is watched (as realpath() says it)
 *   POWERLOSS_LOG=FILE   appended to; lies elsewhere, and outlives the process
 *   POWERLOSS_BOOT=FILE  read instead of the kernel's boot id, so that a power loss shows as one
 *   POWERLOSS_FAIL=CALL:ERRNO:AFTER[:PART]
 *                        CALL is write, sync or open; from AFTER bytes written (or AFTER calls) on
 *                        it fails with that number, for files whose path below DIR contains PART. A
 * write that crosses the border is short, as on a full disk.
 *
 * One mutex makes "do it and write it down" one step, so the log's order is the order of effects. A
 * record goes out before its call and RESULT behind it: at a kill at most the last record has none,
 * and then its call may have happened or not. What is known not to be followed (a writable shared
 * mapping, say) is recorded as BLIND; what went by unseen (writes of the C library's streams) shows
 * as a difference between the log and the directory. Either way lib/disk.mjs refuses the log. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum record {
    START = 1, /* of a process: file numbers begin anew */
    CREATE,    /* file, path */
    OPENED,    /* file, path: one that was there */
    WRITE,     /* file, offset, bytes */
    TRUNCATE,  /* file, size in offset */
    RENAME,    /* path, new path as bytes */
    UNLINK,    /* path; rmdir, too */
    MKDIR,     /* path */
    LINK,      /* path, new path as bytes */
    SYNC,      /* file */
    SYNC_DIR,  /* path */
    SYNC_ALL,
    RESULT, /* of the record before: offset is what the call returned */
    BLIND   /* path: something happened that is not recorded */
};

/* As it lies in the log; `path` bytes of path and `len` bytes of data follow. */
struct head {
    uint32_t type, path;
    uint64_t file, offset, len;
};

#define FDS   65536
#define FILES 4096 /* known at once, by inode */

static struct {
    bool ready;
    char dir[PATH_MAX];
    size_t dir_len;
    int log;
    const char *boot;
    uint32_t of_fd[FDS];   /* number of the file, 0 for not watched */
    bool dir_fd[FDS];      /* a watched directory */
    bool synchronous[FDS]; /* O_SYNC or O_DSYNC */
    struct {
        dev_t dev;
        ino_t ino;
        uint32_t number;
    } files[FILES];
    uint32_t numbers;
    char fail_call[16], fail_part[64];
    int fail_errno;
    int64_t fail_left; /* bytes or calls until it fails */
} at = {.log = -1};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(ret, name, ...)                                                                       \
    static ret (*real)(__VA_ARGS__);                                                               \
    if (!real)                                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

/* ---- the log ---- */

static bool is_child; /* the log is for one process; a child only reads */

static void put(enum record type, uint64_t file, uint64_t offset, const char *path,
                const struct iovec *data, int count)
{
    if (is_child)
        return;
    struct head h = {.type = type, .file = file, .offset = offset};
    struct iovec v[2 + 64];
    h.path = path ? (uint32_t)strlen(path) : 0;
    int n = 2;
    v[1] = (struct iovec){(void *)(uintptr_t)path, h.path};
    for (int i = 0; i < count && n < 66; i++) {
        v[n++] = data[i];
        h.len += data[i].iov_len;
    }
    v[0] = (struct iovec){&h, sizeof h};
    size_t left = sizeof h + h.path + h.len;
    while (left) {
        long w = syscall(SYS_writev, at.log, v, n);
        if (w <= 0) { /* a log with a hole proves nothing */
            fprintf(stderr, "powerloss: cannot write the log\n");
            abort();
        }
        left -= (size_t)w;
        for (int i = 0; i < n; i++) {
            size_t take = v[i].iov_len < (size_t)w ? v[i].iov_len : (size_t)w;
            v[i].iov_base = (char *)v[i].iov_base + take;
            v[i].iov_len -= take;
            w -= (long)take;
        }
    }
}

static int64_t result(int64_t r)
{
    int saved = errno;
    put(RESULT, 0, (uint64_t)r, NULL, NULL, 0);
    errno = saved;
    return r;
}

static void init(void)
{
    if (at.ready)
        return;
    at.ready = true;
    const char *dir = getenv("POWERLOSS_DIR"), *log = getenv("POWERLOSS_LOG");
    const char *fail = getenv("POWERLOSS_FAIL");
    at.boot = getenv("POWERLOSS_BOOT");
    if (fail) {
        long long after = 0;
        if (sscanf(fail, "%15[a-z]:%d:%lld:%63s", at.fail_call, &at.fail_errno, &after,
                   at.fail_part) < 3) {
            fprintf(stderr, "powerloss: POWERLOSS_FAIL=%s\n", fail);
            abort();
        }
        at.fail_left = after;
    }
    if (!dir || !log)
        return;
    if (!realpath(dir, at.dir)) {
        fprintf(stderr, "powerloss: %s: %s\n", dir, strerror(errno));
        abort();
    }
    at.dir_len = strlen(at.dir);
    at.log =
        (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (at.log < 0) {
        fprintf(stderr, "powerloss: %s: %s\n", log, strerror(errno));
        abort();
    }
    put(START, 0, 0, NULL, NULL, 0);
}

static void in_child(void)
{
    is_child = true;
    pthread_mutex_init(&lock, NULL); /* whoever held it is not here */
}

__attribute__((constructor)) static void start(void)
{
    init();
    pthread_atfork(NULL, NULL, in_child);
}

/* ---- which file ---- */

/* The path below DIR ("" for DIR itself), or NULL when it is not watched. The last part need not be
 * there; it is not followed if it is a link. */
static const char *inside(int dirfd, const char *path, char out[PATH_MAX])
{
    if (at.log < 0)
        return NULL;
    char joined[2 * PATH_MAX], parent[PATH_MAX], link[64];
    if (path[0] == '/' || dirfd == AT_FDCWD) {
        snprintf(joined, sizeof joined, "%s", path);
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        ssize_t n = readlink(link, parent, sizeof parent - 1);
        if (n < 0)
            return NULL;
        parent[n] = '\0';
        snprintf(joined, sizeof joined, "%s/%s", parent, path);
    }
    char *slash = strrchr(joined, '/');
    const char *name = slash ? slash + 1 : joined;
    char last[NAME_MAX + 1];
    if (strlen(name) >= sizeof last)
        return NULL;
    strcpy(last, name);
    if (slash && slash != joined)
        *slash = '\0';
    if (!realpath(slash ? (slash == joined ? "/" : joined) : ".", parent))
        return NULL;
    if (!*last || strcmp(last, ".") == 0)
        snprintf(out, PATH_MAX, "%.*s", PATH_MAX - 1, parent);
    else if (snprintf(out, PATH_MAX, "%s/%s", parent, last) >= PATH_MAX)
        return NULL;
    if (strncmp(out, at.dir, at.dir_len) != 0)
        return NULL;
    if (out[at.dir_len] == '\0')
        return "";
    return out[at.dir_len] == '/' ? out + at.dir_len + 1 : NULL;
}

static uint32_t number_of(int fd, bool fresh)
{
    struct stat s;
    if (fstat(fd, &s))
        return 0;
    size_t i = 0;
    while (i < FILES && at.files[i].number &&
           !(at.files[i].dev == s.st_dev && at.files[i].ino == s.st_ino))
        i++;
    if (i == FILES) {
        fprintf(stderr, "powerloss: too many files\n");
        abort();
    }
    if (!at.files[i].number || fresh) {
        at.files[i].dev = s.st_dev;
        at.files[i].ino = s.st_ino;
        at.files[i].number = ++at.numbers;
    }
    return at.files[i].number;
}

/* An inode that goes away will be another file's. */
static void forget(const struct stat *s)
{
    size_t i = 0, n = 0;
    while (n < FILES && at.files[n].number)
        n++;
    while (i < n && !(at.files[i].dev == s->st_dev && at.files[i].ino == s->st_ino))
        i++;
    if (i == n)
        return;
    at.files[i] = at.files[n - 1];
    at.files[n - 1].number = 0;
}

static uint32_t watched(int fd) { return fd >= 0 && fd < FDS ? at.of_fd[fd] : 0; }

static void path_of(int fd, char out[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    out[n > 0 ? n : 0] = '\0';
}

/* ---- failures on demand ---- */

/* How many of n bytes (or calls) may go through; 0 with errno set when it is time to fail. */
static int64_t allowed(const char *call, const char *path, int64_t n)
{
    if (!at.fail_errno || strcmp(call, at.fail_call) != 0 ||
        (*at.fail_part && !strstr(path, at.fail_part)))
        return n;
    if (at.fail_left <= 0) {
        errno = at.fail_errno;
        return 0;
    }
    int64_t take = n < at.fail_left ? n : at.fail_left;
    at.fail_left -= take;
    return take;
}

static int64_t allowed_fd(const char *call, int fd, int64_t n)
{
    if (!at.fail_errno)
        return n;
    char path[PATH_MAX];
    path_of(fd, path);
    bool below = strncmp(path, at.dir, at.dir_len) == 0;
    return allowed(call, below ? path + at.dir_len : path, n);
}

/* ---- open and close ---- */

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
    REAL(int, openat, int, const char *, int, ...);
    init();
    if (at.boot && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
        return real(AT_FDCWD, at.boot, flags, mode);
    char full[PATH_MAX];
    pthread_mutex_lock(&lock);
    const char *name = inside(dirfd, path, full);
    struct stat s;
    bool there = name && fstatat(dirfd, path, &s, 0) == 0;
    int fd = -1;
    if (!name || allowed("open", name, 1))
        fd = real(dirfd, path, flags, mode);
    if (name && fd >= 0 && fd < FDS) {
        at.dir_fd[fd] = there && S_ISDIR(s.st_mode);
        at.synchronous[fd] = flags & (O_SYNC | O_DSYNC);
        at.of_fd[fd] = at.dir_fd[fd] ? 0 : number_of(fd, !there);
        if (at.of_fd[fd]) {
            put(there ? OPENED : CREATE, at.of_fd[fd], 0, name, NULL, 0);
            if (there && (flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY)
                put(TRUNCATE, at.of_fd[fd], 0, NULL, NULL, 0);
            result(0);
        }
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_ARGUMENT                                                                              \
    mode_t mode = 0;                                                                               \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                           \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode = va_arg(ap, mode_t);                                                                 \
        va_end(ap);                                                                                \
    }
int openat(int dirfd, const char *path, int flags, ...)
{
    MODE_ARGUMENT
    return open_at(dirfd, path, flags, mode);
}
int openat64(int dirfd, const char *path, int flags, ...)
{
    MODE_ARGUMENT
    return open_at(dirfd, path, flags | O_LARGEFILE, mode);
}
int open(const char *path, int flags, ...)
{
    MODE_ARGUMENT
    return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...)
{
    MODE_ARGUMENT
    return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
int creat(const char *path, mode_t mode)
{
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int close(int fd)
{
    REAL(int, close, int);
    if (fd >= 0 && fd < FDS && (at.of_fd[fd] || at.dir_fd[fd])) {
        pthread_mutex_lock(&lock);
        at.of_fd[fd] = 0;
        at.dir_fd[fd] = false;
        pthread_mutex_unlock(&lock);
    }
    return real(fd);
}

/* ---- bytes ---- */

/* One way for all kinds of write; offset -1: at the descriptor's own place. */
static ssize_t write_at(int fd, const struct iovec *v, int count, off_t offset)
{
    REAL(ssize_t, writev, int, const struct iovec *, int);
    static ssize_t (*real_at)(int, const struct iovec *, int, off_t);
    if (!real_at)
        *(void **)&real_at = dlsym(RTLD_NEXT, "pwritev");
    uint32_t file = watched(fd);
    if (!file)
        return offset < 0 ? real(fd, v, count) : real_at(fd, v, count, offset);
    pthread_mutex_lock(&lock);
    int64_t want = 0, r = -1;
    for (int i = 0; i < count; i++)
        want += (int64_t)v[i].iov_len;
    int64_t may = count > 64 ? want : allowed_fd("write", fd, want);
    if (count > 64) {
        put(BLIND, file, 0, "a write in more than 64 parts", NULL, 0);
    } else if (may || !want) {
        off_t place = offset;
        struct stat s;
        int flags = fcntl(fd, F_GETFL);
        if (offset < 0 || (flags & O_APPEND))
            place = flags & O_APPEND && fstat(fd, &s) == 0 ? s.st_size : lseek(fd, 0, SEEK_CUR);
        struct iovec cut[64];
        int n = 0;
        for (int64_t left = may; left > 0 && n < count; n++) {
            cut[n] = v[n];
            if ((int64_t)cut[n].iov_len > left)
                cut[n].iov_len = (size_t)left;
            left -= (int64_t)cut[n].iov_len;
        }
        put(WRITE, file, (uint64_t)place, NULL, cut, n);
        r = result(offset < 0 ? real(fd, cut, n) : real_at(fd, cut, n, offset));
        if (r > 0 && at.synchronous[fd])
            put(SYNC, file, 0, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

ssize_t write(int fd, const void *p, size_t n)
{
    REAL(ssize_t, write, int, const void *, size_t);
    if (!watched(fd))
        return real(fd, p, n);
    return write_at(fd, &(struct iovec){(void *)(uintptr_t)p, n}, 1, -1);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t offset)
{
    return write_at(fd, &(struct iovec){(void *)(uintptr_t)p, n}, 1, offset);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off_t offset) { return pwrite(fd, p, n, offset); }
ssize_t writev(int fd, const struct iovec *v, int count) { return write_at(fd, v, count, -1); }
ssize_t pwritev(int fd, const struct iovec *v, int count, off_t offset)
{
    return write_at(fd, v, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *v, int count, off_t offset)
{
    return write_at(fd, v, count, offset);
}
ssize_t pwritev2(int fd, const struct iovec *v, int count, off_t offset, int flags)
{
    ssize_t r = write_at(fd, v, count, offset);
    if (r > 0 && watched(fd) && (flags & (RWF_SYNC | RWF_DSYNC))) {
        pthread_mutex_lock(&lock);
        put(SYNC, watched(fd), 0, NULL, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return r;
}

int ftruncate(int fd, off_t size)
{
    REAL(int, ftruncate, int, off_t);
    uint32_t file = watched(fd);
    if (!file)
        return real(fd, size);
    pthread_mutex_lock(&lock);
    put(TRUNCATE, file, (uint64_t)size, NULL, NULL, 0);
    int r = (int)result(real(fd, size));
    pthread_mutex_unlock(&lock);
    return r;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

/* Only the size it leaves matters: the space is zeros. */
int fallocate(int fd, int mode, off_t offset, off_t len)
{
    REAL(int, fallocate, int, int, off_t, off_t);
    uint32_t file = watched(fd);
    if (!file)
        return real(fd, mode, offset, len);
    pthread_mutex_lock(&lock);
    if (mode & ~FALLOC_FL_KEEP_SIZE)
        put(BLIND, file, 0, "fallocate() of another kind", NULL, 0);
    struct stat s;
    int r = -1;
    if (allowed_fd("write", fd, 1)) {
        bool grows = mode == 0 && fstat(fd, &s) == 0 && offset + len > s.st_size;
        if (grows)
            put(TRUNCATE, file, (uint64_t)(offset + len), NULL, NULL, 0);
        r = real(fd, mode, offset, len);
        if (grows)
            result(r);
    }
    pthread_mutex_unlock(&lock);
    return r;
}
int fallocate64(int fd, int mode, off_t offset, off_t len)
{
    return fallocate(fd, mode, offset, len);
}
int posix_fallocate(int fd, off_t offset, off_t len)
{
    return fallocate(fd, 0, offset, len) ? errno : 0;
}
int posix_fallocate64(int fd, off_t offset, off_t len) { return posix_fallocate(fd, offset, len); }

/* LMDB's lock file says who reads just now. LMDB itself makes it anew after a crash, so nothing of
 * what is in it has to come through. */
static bool is_lmdb_lock(int fd)
{
    static const char name[] = "/lock.mdb";
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path);
    return n >= (ssize_t)sizeof name - 1 &&
           memcmp(path + n - (sizeof name - 1), name, sizeof name - 1) == 0;
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    REAL(void *, mmap, void *, size_t, int, int, int, off_t);
    uint32_t file = watched(fd);
    if (file && (prot & PROT_WRITE) && (flags & MAP_SHARED) && !is_lmdb_lock(fd)) {
        pthread_mutex_lock(&lock);
        put(BLIND, file, 0, "a writable shared mapping", NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return real(addr, len, prot, flags, fd, offset);
}
void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    return mmap(addr, len, prot, flags, fd, offset);
}

/* ---- names ---- */

static int two_names(enum record type, int from_dir, const char *from, int to_dir, const char *to,
                     unsigned flags)
{
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    static int (*real_link)(int, const char *, int, const char *, int);
    if (!real_link)
        *(void **)&real_link = dlsym(RTLD_NEXT, "linkat");
    init();
    char a[PATH_MAX], b[PATH_MAX];
    pthread_mutex_lock(&lock);
    const char *source = inside(from_dir, from, a), *target = inside(to_dir, to, b);
    if (source && target)
        put(type, 0, 0, source, &(struct iovec){(void *)(uintptr_t)target, strlen(target)}, 1);
    else if (source || target)
        put(BLIND, 0, 0, "a name that crosses the border", NULL, 0);
    int r = type == RENAME ? real(from_dir, from, to_dir, to, flags)
                           : real_link(from_dir, from, to_dir, to, (int)flags);
    if (source && target)
        result(r);
    pthread_mutex_unlock(&lock);
    return r;
}
int rename(const char *from, const char *to)
{
    return two_names(RENAME, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return two_names(RENAME, from_dir, from, to_dir, to, 0);
}
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return two_names(RENAME, from_dir, from, to_dir, to, flags);
}
int link(const char *from, const char *to)
{
    return two_names(LINK, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return two_names(LINK, from_dir, from, to_dir, to, (unsigned)flags);
}

int unlinkat(int dirfd, const char *path, int flags)
{
    REAL(int, unlinkat, int, const char *, int);
    init();
    char full[PATH_MAX];
    pthread_mutex_lock(&lock);
    const char *name = inside(dirfd, path, full);
    struct stat s;
    bool last = name && fstatat(dirfd, path, &s, AT_SYMLINK_NOFOLLOW) == 0 && s.st_nlink == 1;
    if (name)
        put(UNLINK, 0, 0, name, NULL, 0);
    int r = real(dirfd, path, flags);
    if (name && result(r) == 0 && last)
        forget(&s);
    pthread_mutex_unlock(&lock);
    return r;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dirfd, const char *path, mode_t mode)
{
    REAL(int, mkdirat, int, const char *, mode_t);
    init();
    char full[PATH_MAX];
    pthread_mutex_lock(&lock);
    const char *name = inside(dirfd, path, full);
    if (name)
        put(MKDIR, 0, 0, name, NULL, 0);
    int r = real(dirfd, path, mode);
    if (name)
        result(r);
    pthread_mutex_unlock(&lock);
    return r;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* ---- syncs ---- */

/* The real call is made, too: what is tested is the program as it runs. */
static int sync_fd(int fd, int (*real)(int))
{
    if (!watched(fd) && !(fd >= 0 && fd < FDS && at.dir_fd[fd]))
        return real(fd);
    pthread_mutex_lock(&lock);
    int r = -1;
    if (allowed_fd("sync", fd, 1) && (r = real(fd)) == 0) {
        char path[PATH_MAX];
        path_of(fd, path);
        if (watched(fd))
            put(SYNC, watched(fd), 0, NULL, NULL, 0);
        else
            put(SYNC_DIR, 0, 0, path[at.dir_len] ? path + at.dir_len + 1 : "", NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return r;
}
int fsync(int fd)
{
    REAL(int, fsync, int);
    return sync_fd(fd, real);
}
int fdatasync(int fd)
{
    REAL(int, fdatasync, int);
    return sync_fd(fd, real);
}

static void all_synced(void)
{
    if (at.log < 0)
        return;
    pthread_mutex_lock(&lock);
    put(SYNC_ALL, 0, 0, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
}
int syncfs(int fd)
{
    REAL(int, syncfs, int);
    int r = real(fd);
    if (r == 0 && (watched(fd) || (fd >= 0 && fd < FDS && at.dir_fd[fd])))
        all_synced();
    return r;
}
void sync(void)
{
    REAL(void, sync, void);
    real();
    all_synced();
}
