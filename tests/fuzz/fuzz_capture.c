/* Captures, plain and zstd: frames come out within the limit, the reader ends, and what it read
 * and wrote again is what it reads. */
#include <sys/mman.h>
#include <unistd.h>

#include <stdio.h>

#include "source/capture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("capture", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) || pwrite(fd, data, n, 0) != (ssize_t)n)
        abort();
    struct mj_capture *c;
    struct mj_span frame;
    if (mj_capture_open(path, &c))
        abort();
    MJ_AUTO_BUF again = {0};
    int got;
    size_t total = 0;
    while ((got = mj_capture_next(c, &frame)) > 0) {
        if (frame.len > MJ_CAPTURE_FRAME_MAX)
            abort();
        total += frame.len;
        if (total > 8u << 20) /* a bomb: enough seen */
            break;
        mj_capture_put(&again, frame);
    }
    mj_capture_close(c);
    bool packed = n >= 4 && memcmp(data, "\x28\xb5\x2f\xfd", 4) == 0;
    if (!packed && got <= 0 && (again.len > n || (again.len && memcmp(again.ptr, data, again.len))))
        abort();
    if (!packed && got == 0 && again.len != n)
        abort();
    return 0;
}
