/* A small program whose effect on files is known, for testing powerloss.c with: it does what its
 * arguments say, one word each.
 *
 *   open:N:PATH  make:PATH (a directory)  dir:N:PATH (open it)  write:N:TEXT  at:N:OFFSET:TEXT
 *   stream:PATH:TEXT (by the C library)  append:PATH:TEXT  vector:N:A:B  size:N:BYTES  grow:N:BYTES
 *   sync:N  data:N  rename:A:B  unlink:A  map:N  say:TEXT (what a failed call left in errno: say:%)
 *   die (by SIGKILL)                                      N is a digit that names a descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int fds[10];

static int run(char *word)
{
    char *part[4] = {0};
    char *verb = strtok(word, ":");
    for (int i = 0; i < 3; i++)
        part[i] = strtok(NULL, ":");
    int n = part[0] && part[0][0] >= '0' && part[0][0] <= '9' ? part[0][0] - '0' : 0, fd = fds[n];
    if (strcmp(verb, "open") == 0)
        return (fds[n] = open(part[1], O_RDWR | O_CREAT, 0600)) < 0;
    if (strcmp(verb, "dir") == 0)
        return (fds[n] = open(part[1], O_RDONLY | O_DIRECTORY)) < 0;
    if (strcmp(verb, "make") == 0)
        return mkdir(part[0], 0700);
    if (strcmp(verb, "write") == 0)
        return write(fd, part[1], strlen(part[1])) != (ssize_t)strlen(part[1]);
    if (strcmp(verb, "at") == 0)
        return pwrite(fd, part[2], strlen(part[2]), atol(part[1])) != (ssize_t)strlen(part[2]);
    if (strcmp(verb, "vector") == 0) {
        struct iovec v[2] = {{part[1], strlen(part[1])}, {part[2], strlen(part[2])}};
        return writev(fd, v, 2) < 0;
    }
    if (strcmp(verb, "append") == 0) {
        int a = open(part[0], O_WRONLY | O_APPEND);
        int failed = a < 0 || write(a, part[1], strlen(part[1])) < 0;
        return close(a) || failed;
    }
    if (strcmp(verb, "stream") == 0) {
        FILE *f = fopen(part[0], "w");
        return !f || fputs(part[1], f) < 0 || fclose(f);
    }
    if (strcmp(verb, "size") == 0)
        return ftruncate(fd, atol(part[1]));
    if (strcmp(verb, "grow") == 0)
        return posix_fallocate(fd, 0, atol(part[1]));
    if (strcmp(verb, "sync") == 0)
        return fsync(fd);
    if (strcmp(verb, "data") == 0)
        return fdatasync(fd);
    if (strcmp(verb, "rename") == 0)
        return rename(part[0], part[1]);
    if (strcmp(verb, "unlink") == 0)
        return unlink(part[0]);
    if (strcmp(verb, "map") == 0)
        return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED;
    if (strcmp(verb, "die") == 0)
        return raise(SIGKILL);
    fprintf(stderr, "scribe: %s?\n", verb);
    exit(2);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char word[256];
        snprintf(word, sizeof word, "%s", argv[i]);
        errno = 0;
        if (run(word))
            printf("%s %d\n", argv[i], errno);
    }
    return 0;
}
