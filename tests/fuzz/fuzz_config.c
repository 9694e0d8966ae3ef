/* Configuration files: whatever is in one, it is read or refused with a message that names it, and
 * what was read can be printed and read again with the same result. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/mman.h>

#include "script/config.h"

struct cfg {
    struct mj_strings list;
    const char *text, *path;
    int64_t number, size, time;
    bool flag;
};

static const struct mj_option options[] = {
    {"source", MJ_OPT_LIST, offsetof(struct cfg, list), "URL", "…"},
    {"listen", MJ_OPT_STR, offsetof(struct cfg, text), "X", "…", .group = "listen"},
    {"data", MJ_OPT_STR, offsetof(struct cfg, path), "X", "…", .group = "journal", .path = true},
    {"retain", MJ_OPT_TIME, offsetof(struct cfg, time), "X", "…", .group = "journal"},
    {"bytes", MJ_OPT_SIZE, offsetof(struct cfg, size), "X", "…", .group = "journal"},
    {"rate", MJ_OPT_INT, offsetof(struct cfg, number), "X", "…", .group = "limits"},
    {"watch", MJ_OPT_FLAG, offsetof(struct cfg, flag), NULL, "…", .group = "limits"},
    {0}};

static int load(struct mj_span text, struct mj_config *out, struct mj_buf *error)
{
    MJ_AUTO_BUF notes = {0};
    char path[64];
    int fd = memfd_create("config", MFD_CLOEXEC);
    if (fd < 0 || write(fd, text.ptr, text.len) != (ssize_t)text.len)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int err = mj_config_load(path, options, out, &notes, error);
    close(fd);
    return err;
}

static void print(const struct mj_config *c, struct mj_buf *out)
{
    for (size_t i = 0; i < c->script_count; i++)
        mj_config_print_script(c->scripts[i], out);
    for (size_t i = 0; i < c->set_count; i++)
        mj_config_print_set(&c->sets[i], out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mj_config first, second;
    MJ_AUTO_BUF error = {0};
    MJ_AUTO_BUF once = {0};
    MJ_AUTO_BUF twice = {0};
    if (size > 4096)
        return 0;
    if (load(mj_span(data, size), &first, &error)) {
        if (!error.len || first.option_count || first.script_count)
            abort();
        return 0;
    }
    print(&first, &once);
    bool absolute = true; /* others would be resolved once more */
    for (size_t i = 0; i < first.script_count; i++)
        absolute =
            absolute && first.scripts[i]->path[0] == '/' && !strpbrk(first.scripts[i]->path, "*?[");
    for (size_t i = 0; i < first.set_count; i++)
        absolute = absolute && (!first.sets[i].file || first.sets[i].file[0] == '/');
    if (absolute) {
        if (load(mj_buf_span(&once), &second, &error))
            abort();
        print(&second, &twice);
        if (!mj_span_eq(mj_buf_span(&once), mj_buf_span(&twice)))
            abort();
        mj_config_deinit(&second);
    }
    mj_config_deinit(&first);
    return 0;
}
