/* moonjet why: what became of a record, out of what a router keeps under --data, also while it
 * runs; `moonjet ctl why` knows more then. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/why.h"
#include "flow/plugin.h"
#include "journal/inspect.h"
#include "journal/reader.h"
#include "script/script.h"

struct cfg {
    const char *data, *plc, *dns;
    struct mj_strings config, plugins;
    bool json;
};

static const struct mj_option options[] = {
    {"data", MJ_OPT_STR, offsetof(struct cfg, data), "DIR", "the data directory of moonjet run",
     .env = "JETSTREAM_DATA_DIR"},
    {"config", MJ_OPT_LIST, offsetof(struct cfg, config), "KEY=VALUE",
     "what scripts read as jet.config.KEY, repeatable"},
    {"plugins", MJ_OPT_LIST, offsetof(struct cfg, plugins), "DIR",
     "look for plug-ins there first, repeatable"},
    {"plc", MJ_OPT_STR, offsetof(struct cfg, plc), "URL", "where did:plc documents are looked up"},
    {"dns", MJ_OPT_STR, offsetof(struct cfg, dns), "ADDRESS:PORT",
     "name server for handles (without: the system's)"},
    {"json", MJ_OPT_FLAG, offsetof(struct cfg, json), NULL, "one JSON object on stdout"},
    {0}};

static const char *stream_name(void *ctx, unsigned bit)
{
    const struct mj_journal *j = ctx;
    static char name[65];
    struct mj_span s = bit < mj_inspect_streams(j) ? mj_inspect_stream(j, bit) : mj_span(NULL, 0);
    if (!s.len || s.len >= sizeof name)
        return NULL;
    snprintf(name, sizeof name, "%.*s", (int)s.len, (const char *)s.ptr);
    return name;
}

/* The journal notes no source per event. */
static const char *source_url(void *ctx, int number)
{
    (void)ctx;
    (void)number;
    return NULL;
}

static int load_scripts(const struct cfg *given, const struct mj_strings *pos,
                        struct mj_scripts *scripts)
{
    const struct mj_script_cfg cfg = {.config = &given->config, .made_up_secrets = true};
    MJ_AUTO_BUF error = {0};
    for (size_t i = 0; i < given->config.n; i++)
        if (!strchr(given->config.v[i], '=')) {
            fprintf(stderr, "moonjet why: --config %s: expected KEY=VALUE\n", given->config.v[i]);
            return MJ_EXIT_USAGE;
        }
    mj_plugins_dirs(&given->plugins);
    for (size_t i = 1; i < pos->n; i++)
        if (mj_scripts_load(scripts, pos->v[i], &cfg, &error)) {
            fprintf(stderr, "moonjet why: %s\n", mj_buf_cstr(&error));
            return MJ_EXIT_USAGE;
        }
    return 0;
}

static int print(const struct cfg *cfg, const struct mj_buf *json)
{
    MJ_AUTO_BUF out = {0};
    bool colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    int status = why_show(mj_buf_span(json), colour, &out);
    if (cfg->json) {
        out.len = 0;
        mj_buf_put(&out, json->ptr, json->len);
        mj_buf_putc(&out, '\n');
    }
    fwrite(out.ptr, 1, out.len, stdout);
    return fflush(stdout) ? MJ_EXIT_USAGE : status;
}

/* Positions and dead letters, as the router has written them. */
static void ask_readers(const struct cfg *cfg, struct mj_journal *journal,
                        const struct why_target *target, struct why_found *found)
{
    MJ_AUTO_BUF path = {0};
    MJ_AUTO_BUF error = {0};
    struct mj_disk *disk = NULL;
    mj_buf_printf(&path, "%s/state", cfg->data);
    int err = mj_disk_open_read_only(mj_buf_cstr(&path), &disk, &error);
    if (err && err != MJ_ENOENT)
        fprintf(stderr, "moonjet why: %s\n", mj_buf_cstr(&error));
    if (err)
        return;
    const struct mj_readers_cfg readers_cfg = {.journal = journal, .disk = disk};
    struct mj_readers *readers = mj_readers_new(&readers_cfg);
    why_deliveries(readers, target, NULL, found);
    mj_readers_free(readers);
    mj_disk_close(disk);
}

/* What the journal says, and what the scripts' flows say to it. */
static int look(const struct cfg *cfg, struct mj_scripts *scripts, const struct why_target *target)
{
    MJ_AUTO_BUF path = {0};
    MJ_AUTO_BUF problems = {0};
    MJ_AUTO_BUF json = {0};
    struct mj_journal *journal;
    struct why_found found;
    size_t count;
    struct why_graph graphs[MJ_STRINGS_MAX];
    mj_buf_printf(&path, "%s/journal", cfg->data);
    if (mj_inspect_open(mj_buf_cstr(&path), &journal, &problems, &count)) {
        fprintf(stderr, "moonjet why: %s", mj_buf_cstr(&problems));
        return MJ_EXIT_USAGE;
    }
    fputs(mj_buf_cstr(&problems), stderr);
    for (size_t i = 0; i < mj_scripts_count(scripts); i++)
        graphs[i] = (struct why_graph){mj_scripts_graph(scripts, i), false};
    why_search(journal, target, NULL, &found);
    found.damaged |= count > 0;
    ask_readers(cfg, journal, target, &found);
    const struct why_world world = {.target = target,
                                    .found = &found,
                                    .graphs = graphs,
                                    .graph_count = mj_scripts_count(scripts),
                                    .stream = stream_name,
                                    .source = source_url,
                                    .ctx = journal};
    why_report(&world, &json);
    int status = print(cfg, &json);
    why_found_deinit(&found);
    mj_journal_close(journal);
    return status;
}

static int why_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    struct why_target target;
    MJ_AUTO_BUF error = {0};
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    if (!cfg.data || !*cfg.data) {
        fprintf(stderr,
                "moonjet why: of which one? Give --data DIR as moonjet run has it; one that "
                "runs without is asked with moonjet ctl why\n");
        return MJ_EXIT_USAGE;
    }
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    r = why_target_ask(pos.v[0], &(struct why_lookup){cfg.plc, cfg.dns}, &target, &error);
    if (r) {
        fprintf(stderr, "moonjet why: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_USAGE;
    }
    struct mj_scripts *scripts = mj_scripts_new(NULL);
    mj_scripts_asked(scripts);
    r = load_scripts(&cfg, &pos, scripts);
    if (!r)
        r = look(&cfg, scripts, &target);
    mj_scripts_free(scripts);
    why_target_deinit(&target);
    return r;
}

const struct mj_command mj_cmd_why = {
    .name = "why",
    .usage = "at://DID/COLLECTION/RKEY [SCRIPT…]",
    .summary = "What became of a record, out of what a router keeps under --data DIR.",
    .details =
        "When it came, which streams have it, and what was delivered; with scripts, also what\n"
        "their flows say to it. A link to a post on bsky.app will do, and a DID for what came\n"
        "about an account; a handle is looked up first. Of a router that runs, moonjet ctl why\n"
        "knows more: the verdict of each node, and where the record came from.\n"
        "Exit status: 0 it arrived, 1 it did not, as far as is known, 2 there is no answer.",
    .options = options,
    .positional_min = 1,
    .positional_max = MJ_STRINGS_MAX,
    .main = why_main,
};
