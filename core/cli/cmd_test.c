/* moonjet test: finds spec files and runs them, one after the other. */
#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/recording.h"
#include "flow/plugin.h"
#include "script/spec.h"

struct cfg {
    const char *filter;
    bool list, tap;
    int64_t limit_us;
    struct mj_strings plugins;
};

static const struct mj_option options[] = {
    {.name = "filter",
     .type = MJ_OPT_STR,
     .offset = offsetof(struct cfg, filter),
     .arg = "PATTERN",
     .help = "only tests whose name matches (a Lua pattern)"},
    {.name = "list",
     .type = MJ_OPT_FLAG,
     .offset = offsetof(struct cfg, list),
     .help = "print the tests' names, run none"},
    {.name = "tap",
     .type = MJ_OPT_FLAG,
     .offset = offsetof(struct cfg, tap),
     .help = "print TAP, for machines"},
    {.name = "limit",
     .type = MJ_OPT_TIME,
     .offset = offsetof(struct cfg, limit_us),
     .arg = "TIME",
     .help = "a test that takes longer is stopped",
     .def = "10s"},
    {.name = "plugins",
     .type = MJ_OPT_LIST,
     .offset = offsetof(struct cfg, plugins),
     .arg = "DIR",
     .help = "look for plug-ins there first, repeatable"},
    {0}};

struct paths {
    char **v; /* owned, like what it points to */
    size_t n;
};

static void add_path(struct paths *p, const char *path)
{
    p->v = mj_realloc(p->v, (p->n + 1) * sizeof *p->v);
    p->v[p->n++] = mj_strdup(path);
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool is_spec(const char *name)
{
    static const char end[] = "_spec.lua";
    size_t len = strlen(name);
    return len > sizeof end - 1 && strcmp(name + len - (sizeof end - 1), end) == 0;
}

/* The spec files below a directory, or the file itself whatever its name. False after a message. */
static bool find_specs(const char *path, struct paths *out)
{
    char *roots[] = {(char *)path, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    bool good = fts;
    size_t before = out->n;
    bool is_dir = false;
    for (FTSENT *e; fts && (e = fts_read(fts));) {
        bool root = e->fts_level == FTS_ROOTLEVEL;
        if (e->fts_info == FTS_D && root)
            is_dir = true;
        else if (e->fts_info == FTS_D &&
                 (e->fts_name[0] == '.' || strcmp(e->fts_name, "node_modules") == 0))
            fts_set(fts, e, FTS_SKIP);
        else if (e->fts_info == FTS_F && (root || is_spec(e->fts_name)))
            add_path(out, e->fts_path);
        else if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR || e->fts_info == FTS_NS) {
            fprintf(stderr, "moonjet test: %s: %s\n", e->fts_path, strerror(e->fts_errno));
            good = false;
        }
    }
    if (fts)
        fts_close(fts);
    if (good && out->n == before) {
        fprintf(stderr, "moonjet test: %s: %s\n", path,
                is_dir ? "no file in it or below is named *_spec.lua" : "is no file");
        good = false;
    }
    return good;
}

static void write_out(void *ctx, struct mj_span text)
{
    (void)ctx;
    fwrite(text.ptr, 1, text.len, stdout);
}

static int test_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    mj_plugins_dirs(&cfg.plugins);
    struct paths specs = {0};
    struct mj_spec_counts counts = {0};
    bool good = true;
    for (size_t i = 0; i < pos.n; i++)
        good &= find_specs(pos.v[i], &specs);
    struct mj_spec_cfg spec = {
        .filter = cfg.filter,
        .list = cfg.list,
        .tap = cfg.tap,
        .colour = !cfg.tap && isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
        .limit_us = cfg.limit_us,
        .write = write_out,
        .read = mj_recording_read,
    };
    mj_log_setup(MJ_LOG_WARN, false);
    if (cfg.tap && !cfg.list)
        puts("TAP version 13");
    for (size_t i = 0; i < specs.n; i++) {
        mj_spec_run(specs.v[i], &spec, &counts);
        fflush(stdout);
    }
    if (!cfg.list) {
        unsigned ran = counts.passed + counts.failed + counts.skipped;
        if (cfg.tap)
            printf("1..%u\n# ", ran);
        printf("%u passed, %u failed, %u skipped\n", counts.passed, counts.failed, counts.skipped);
        if (good && !ran && cfg.filter)
            fprintf(stderr, "moonjet test: no test's name matches '%s'\n", cfg.filter);
        good &= ran > 0;
    }
    for (size_t i = 0; i < specs.n; i++)
        free(specs.v[i]);
    free(specs.v);
    return good && !counts.failed ? MJ_EXIT_OK : MJ_EXIT_FAILED;
}

const struct mj_command mj_cmd_test = {
    .name = "test",
    .usage = "PATH…",
    .summary = "Run specs: Lua files that test scripts.",
    .details =
        "PATH is a spec file, or a directory: then all files in it and below are run whose names\n"
        "end in _spec.lua. Scripts are loaded into the real VM with the real limits; what reaches\n"
        "them is made up by the spec, their clock stands still until the spec moves it. Exit\n"
        "status 1 when a test failed. docs/scripting.md, \"Testing\", tells how to write one.",
    .options = options,
    .positional_min = 1,
    .positional_max = MJ_STRINGS_MAX,
    .main = test_main,
};
