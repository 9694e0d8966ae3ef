#include <stdio.h>

#include "cli/commands.h"
#include "script/script.h"

struct cfg {
    bool json;
    struct mj_strings config;
};

static const struct mj_option options[] = {{.name = "json",
                                            .type = MJ_OPT_FLAG,
                                            .offset = offsetof(struct cfg, json),
                                            .help = "print the graphs as JSON"},
                                           {.name = "config",
                                            .type = MJ_OPT_LIST,
                                            .offset = offsetof(struct cfg, config),
                                            .arg = "KEY=VALUE",
                                            .help = "what scripts read as jet.config.KEY"},
                                           {0}};

static int check_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    struct mj_streams *streams = mj_streams_new(NULL);
    struct mj_router *router = mj_router_new(NULL);
    mj_router_set_streams(router, streams);
    struct mj_scripts *scripts = mj_scripts_new(router);
    struct mj_script_cfg script_cfg = {.config = &cfg.config};
    struct mj_buf out = {0}, talk = {0};
    int exit_code = MJ_EXIT_OK;
    if (cfg.json)
        mj_buf_putc(&out, '[');
    for (size_t i = 0; i < pos.n; i++) {
        size_t loaded = mj_scripts_count(scripts);
        MJ_AUTO_BUF error = {0};
        if (mj_scripts_load(scripts, pos.v[i], &script_cfg, &error)) {
            mj_buf_printf(&talk, "moonjet check: %s\n", mj_buf_cstr(&error));
            exit_code = MJ_EXIT_FAILED;
            continue;
        }
        const struct mj_graph *g = mj_scripts_graph(scripts, loaded);
        if (cfg.json) {
            mj_buf_puts(&out, loaded ? ",\n" : "");
            mj_graph_print_json(g, &out);
        } else {
            mj_graph_print(g, &out);
        }
        MJ_AUTO_BUF warnings = {0};
        if (mj_graph_warn(g, &warnings))
            mj_buf_printf(&talk, "%s", mj_buf_cstr(&warnings));
        if (!g->count)
            mj_buf_printf(&talk, "%s: draws nothing; start with jet.from or jet.main\n", pos.v[i]);
    }
    if (cfg.json)
        mj_buf_puts(&out, "]\n");
    fputs(mj_buf_cstr(&out), stdout);
    fflush(stdout);
    fputs(mj_buf_cstr(&talk), stderr);
    mj_buf_deinit(&out);
    mj_buf_deinit(&talk);
    mj_router_free(router);
    mj_scripts_free(scripts);
    mj_streams_free(streams);
    return exit_code;
}

const struct mj_command mj_cmd_check = {
    .name = "check",
    .usage = "SCRIPT…",
    .summary = "Load scripts without running them and print their graphs.",
    .details =
        "Runs the top level of each script, as `moonjet run` would, and prints what it draws: "
        "each node with its match, where its events go, and the file and line it comes from. "
        "A script that does not load is an error; a flow that ends nowhere is a warning.",
    .options = options,
    .positional_min = 1,
    .positional_max = MJ_STRINGS_MAX,
    .main = check_main,
};
