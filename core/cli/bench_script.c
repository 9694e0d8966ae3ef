#include "cli/bench_script.h"

#include <stdio.h>
#include <unistd.h>

#include "base/err.h"

void mj_bench_route_init(struct mj_bench_route *r, size_t kept)
{
    r->journal = mj_journal_in_memory(kept);
    r->streams = mj_streams_new(r->journal);
    r->router = mj_router_new(r->journal);
    mj_router_set_streams(r->router, r->streams);
    r->scripts = mj_scripts_new(r->router);
}

void mj_bench_route_deinit(struct mj_bench_route *r)
{
    mj_router_free(r->router);
    mj_scripts_free(r->scripts);
    mj_streams_free(r->streams);
    mj_journal_close(r->journal);
}

int mj_bench_script(struct mj_scripts *scripts, struct mj_span source,
                    const struct mj_script_cfg *cfg, char name[32])
{
    char path[] = "/tmp/moonjet-bench-XXXXXX";
    MJ_AUTO_BUF error = {0};
    int fd = mkstemp(path), err = MJ_EIO;
    if (fd < 0) {
        perror("moonjet bench: temporary script");
        return err;
    }
    if (write(fd, source.ptr, source.len) != (ssize_t)source.len)
        perror("moonjet bench: temporary script");
    else if ((err = mj_scripts_load(scripts, path, cfg, &error)))
        fprintf(stderr, "moonjet bench: %s\n", mj_buf_cstr(&error));
    close(fd);
    unlink(path);
    if (name)
        snprintf(name, 32, "%s", strrchr(path, '/') + 1);
    return err;
}
