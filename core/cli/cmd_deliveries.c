/* moonjet deliveries: what a moonjet that does not run has still to deliver, and its dead letters.
 * Reads what is under --data, and changes nothing; beside one that runs it sees what that one has
 * written so far. */
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/data_dir.h"
#include "cli/deliveries.h"
#include "journal/inspect.h"

#define COUNTS 64 /* of some million entries each: more than a journal of days has */

struct cfg {
    const char *data;
    bool json;
};

static const struct mj_option options[] = {
    {"data", MJ_OPT_STR, offsetof(struct cfg, data), "DIR", "the data directory of moonjet run",
     .env = "JETSTREAM_DATA_DIR"},
    {"json", MJ_OPT_FLAG, offsetof(struct cfg, json), NULL, "one JSON object on stdout"},
    {0}};

static int usage(const char *text)
{
    fprintf(stderr, "moonjet deliveries: %s\n", text);
    return MJ_EXIT_USAGE;
}

/* {"error":"…"} is for stderr. */
static int print(const struct cfg *cfg, int status, const struct mj_buf *json)
{
    MJ_AUTO_BUF out = {0};
    bool failed = status >= 400;
    if (failed || cfg->json || !mj__deliveries_text(mj_buf_span(json), mj_now_us(), &out))
        mj_buf_put(&out, json->ptr, json->len);
    if (failed && !cfg->json) {
        out.len = 0;
        mj__deliveries_error(mj_buf_span(json), &out);
        fprintf(stderr, "moonjet deliveries: %s\n", mj_buf_cstr(&out));
        return MJ_EXIT_FAILED;
    }
    if (out.len)
        fwrite(out.ptr, 1, out.len, stdout);
    return fflush(stdout) || failed ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}

static bool nothing(void *ctx, const struct mj_reader_state *s)
{
    (void)ctx;
    (void)s;
    return true;
}

/* What waits is counted a part at a time, for those who must not stand still; nobody waits here. */
static void count_all(struct mj_readers *readers)
{
    for (int i = 0; i < COUNTS; i++)
        mj_readers_each(readers, nothing, NULL);
}

static int look(const struct cfg *cfg, const struct mj_strings *args)
{
    MJ_AUTO_BUF path = {0};
    MJ_AUTO_BUF error = {0};
    MJ_AUTO_BUF json = {0};
    struct mj_journal *journal;
    struct mj_disk *disk = NULL;
    size_t problems;
    mj_buf_printf(&path, "%s/journal", cfg->data);
    if (mj_inspect_open(mj_buf_cstr(&path), &journal, &error, &problems)) {
        fprintf(stderr, "moonjet deliveries: %s", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    fputs(mj_buf_cstr(&error), stderr);
    if (mj_data_dir_is_used(cfg->data))
        fprintf(
            stderr,
            "moonjet deliveries: one is running there, and not \"stopped\"; this is what it has "
            "written so far. It answers for itself: moonjet ctl --data %s deliveries\n",
            cfg->data);
    path.len = error.len = 0;
    mj_buf_printf(&path, "%s/state", cfg->data);
    int err = mj_disk_open_read_only(mj_buf_cstr(&path), &disk, &error);
    int status = MJ_EXIT_FAILED;
    if (err && err != MJ_ENOENT) {
        fprintf(stderr, "moonjet deliveries: %s\n", mj_buf_cstr(&error));
    } else {
        const struct mj_readers_cfg readers_cfg = {.journal = journal, .disk = disk};
        struct mj_readers *readers = mj_readers_new(&readers_cfg);
        count_all(readers);
        int answer = mj__deliveries(readers, args, true, &json);
        status = print(cfg, answer, &json);
        mj_readers_free(readers);
    }
    mj_disk_close(disk);
    mj_journal_close(journal);
    return status;
}

static int deliveries_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos, args = {0};
    MJ_AUTO_BUF name = {0};
    MJ_AUTO_BUF error = {0};
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    if (!cfg.data || !*cfg.data)
        return usage(
            "of which one? Give --data DIR as moonjet run has it; one that runs without is "
            "asked with moonjet ctl deliveries");
    args.v[args.n++] = pos.n ? pos.v[0] : "list";
    for (size_t i = 1; i < pos.n; i++)
        mj_buf_printf(&name, "%s%s", i > 1 ? " " : "", pos.v[i]);
    if (name.len)
        args.v[args.n++] = mj_buf_cstr(&name);
    if (strcmp(args.v[0], "list") != 0 && strcmp(args.v[0], "show") != 0)
        return usage("there are list and show here; what changes something is for one that runs: "
                     "moonjet ctl deliveries");
    if (!mj__deliveries_check(&args, &error))
        return usage(mj_buf_cstr(&error));
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    return look(&cfg, &args);
}

const struct mj_command mj_cmd_deliveries = {
    .name = "deliveries",
    .usage = "[list [NAME] | show NAME|LETTER]",
    .summary = "What a stopped moonjet had still to deliver, and its dead letters.",
    .details =
        "Reads what moonjet run keeps under --data DIR and changes nothing. Beside one that\n"
        "runs it shows what that one has written; moonjet ctl deliveries knows more then.",
    .options = options,
    .positional_max = MJ_STRINGS_MAX,
    .main = deliveries_main,
};
