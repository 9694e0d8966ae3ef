/* moonjet check: loads scripts as `moonjet run` would, all together, and says what they draw and
 * what about it is wrong or odd. Nothing runs. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/run.h"
#include "flow/lint.h"
#include "flow/plugin.h"

struct cfg {
    bool json, strict;
    struct mj_strings config, plugins;
};

static const struct mj_option options[] = {
    {"json", MJ_OPT_FLAG, offsetof(struct cfg, json), NULL, "one JSON object on stdout"},
    {"strict", MJ_OPT_FLAG, offsetof(struct cfg, strict), NULL, "warnings fail, too"},
    {"config", MJ_OPT_LIST, offsetof(struct cfg, config), "FILE|KEY=VALUE",
     "the configuration file, or what scripts read as jet.config.KEY, repeatable"},
    {"plugins", MJ_OPT_LIST, offsetof(struct cfg, plugins), "DIR",
     "look for plug-ins there first, repeatable"},
    {0}};

struct check {
    struct mj_streams *streams;
    struct mj_router *router;
    struct mj_scripts *scripts;
    struct mj_config file;
    struct mj_buf errors, warnings; /* lines, each with its end */
};

static void add_line(struct mj_buf *lines, struct mj_span text)
{
    mj_buf_put(lines, text.ptr, text.len);
    if (!text.len || text.ptr[text.len - 1] != '\n')
        mj_buf_putc(lines, '\n');
}

static bool is_config(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, "moonjet.lua") == 0;
}

static void read_config(struct check *c, const char *path)
{
    MJ_AUTO_BUF notes = {0};
    MJ_AUTO_BUF error = {0};
    if (c->file.path) {
        mj_buf_printf(&c->errors, "%s: there is one configuration file, and it is %s\n", path,
                      c->file.path);
        return;
    }
    if (mj_config_load(path, mj_run_options, &c->file, &notes, &error))
        add_line(&c->errors, mj_buf_span(&error));
    else if (notes.len)
        add_line(&c->warnings, mj_buf_span(&notes));
}

/* Two files of one name share what is known by it: metrics, state, log lines. */
static void compare_names(struct check *c)
{
    for (size_t i = 0; i < mj_scripts_count(c->scripts); i++)
        for (size_t k = 0; k < i; k++) {
            const char *name = mj_scripts_graph(c->scripts, i)->script;
            struct mj_script_state a, b;
            if (strcmp(name, mj_scripts_graph(c->scripts, k)->script) != 0)
                continue;
            mj_scripts_state(c->scripts, i, &a);
            mj_scripts_state(c->scripts, k, &b);
            mj_buf_printf(&c->warnings,
                          "%s: has the same name as %s, and so the same metrics and state; rename "
                          "one\n",
                          a.path, b.path);
        }
}

static void load(struct check *c, const struct mj_config_script *script,
                 const struct mj_strings *pairs)
{
    struct mj_script_cfg cfg = script->cfg;
    MJ_AUTO_BUF error = {0};
    cfg.config_lua = script->config_lua;
    cfg.secrets = script->has_secrets ? &script->secrets : NULL;
    cfg.lint = cfg.made_up_secrets = true;
    if (pairs->n)
        cfg.config = pairs;
    if (mj_scripts_load(c->scripts, script->path, &cfg, &error)) {
        add_line(&c->errors, mj_buf_span(&error));
        return;
    }
    size_t i = mj_scripts_count(c->scripts) - 1;
    /* The scripts themselves know no router, so that nothing of theirs goes live. */
    if (mj_router_add(c->router, (struct mj_graph *)mj_scripts_graph(c->scripts, i), &error))
        add_line(&c->errors, mj_buf_span(&error));
    mj_scripts_unused(c->scripts, i, &c->warnings);
}

static void check_all(struct check *c, const struct mj_strings *paths,
                      const struct mj_strings *config)
{
    struct mj_strings pairs = {.n = 0};
    for (size_t i = 0; i < config->n; i++) {
        if (strchr(config->v[i], '='))
            pairs.v[pairs.n++] = config->v[i];
        else
            read_config(c, config->v[i]);
    }
    for (size_t i = 0; i < paths->n; i++)
        if (is_config(paths->v[i]))
            read_config(c, paths->v[i]);
    /* As for `moonjet run`: scripts that the command line names are added to the file's. */
    for (size_t i = 0; i < paths->n; i++)
        if (!is_config(paths->v[i]))
            mj_config_script(&c->file, paths->v[i]);
    for (size_t i = 0; i < c->file.script_count; i++)
        load(c, c->file.scripts[i], &pairs);
    size_t n = mj_scripts_count(c->scripts);
    const struct mj_graph **graphs = mj_calloc(n + 1, sizeof *graphs);
    for (size_t i = 0; i < n; i++)
        graphs[i] = mj_scripts_graph(c->scripts, i);
    mj_lint(graphs, n, &c->warnings);
    free(graphs);
    compare_names(c);
}

static void put_problems(struct mj_span lines, const char *level, bool *first, struct mj_buf *out)
{
    while (lines.len) {
        size_t n = (size_t)((const uint8_t *)memchr(lines.ptr, '\n', lines.len) - lines.ptr);
        mj_buf_printf(out, "%s{\"level\":\"%s\",\"text\":", *first ? "" : ",", level);
        mj_buf_put_json(out, mj_span(lines.ptr, n));
        mj_buf_putc(out, '}');
        *first = false;
        lines = mj_span(lines.ptr + n + 1, lines.len - n - 1);
    }
}

static void print_json(const struct check *c, struct mj_buf *out)
{
    bool first = true;
    mj_buf_puts(out, "{\"scripts\":[");
    for (size_t i = 0; i < mj_scripts_count(c->scripts); i++) {
        mj_buf_puts(out, i ? ",\n" : "");
        mj_graph_print_json(mj_scripts_graph(c->scripts, i), out);
    }
    mj_buf_puts(out, "],\"problems\":[");
    put_problems(mj_buf_span(&c->errors), "error", &first, out);
    put_problems(mj_buf_span(&c->warnings), "warning", &first, out);
    mj_buf_puts(out, "]}\n");
}

static void say(struct mj_span lines, const char *front)
{
    while (lines.len) {
        size_t n = (size_t)((const uint8_t *)memchr(lines.ptr, '\n', lines.len) + 1 - lines.ptr);
        fprintf(stderr, "%s%.*s", front, (int)n, (const char *)lines.ptr);
        lines = mj_span(lines.ptr + n, lines.len - n);
    }
}

static int check_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    struct check c = {0};
    MJ_AUTO_BUF out = {0};
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    mj_plugins_dirs(&cfg.plugins);
    c.streams = mj_streams_new(NULL);
    c.router = mj_router_new(NULL);
    mj_router_set_streams(c.router, c.streams);
    c.scripts = mj_scripts_new(NULL);
    static const struct mj_services services = {.hook_check = run_hook_check};
    mj_scripts_set_services(c.scripts, &services);
    check_all(&c, &pos, &cfg.config);
    if (cfg.json)
        print_json(&c, &out);
    for (size_t i = 0; !cfg.json && i < mj_scripts_count(c.scripts); i++)
        mj_graph_print(mj_scripts_graph(c.scripts, i), &out);
    if (out.len)
        fwrite(out.ptr, 1, out.len, stdout);
    fflush(stdout);
    if (!cfg.json) {
        say(mj_buf_span(&c.errors), "moonjet check: ");
        say(mj_buf_span(&c.warnings), "");
    }
    if (!c.errors.len && !c.file.script_count && !c.file.path) {
        fprintf(stderr, "moonjet check: nothing to check (usage: moonjet check %s)\n", cmd->usage);
        r = MJ_EXIT_USAGE;
    } else if (c.errors.len || (cfg.strict && c.warnings.len)) {
        r = MJ_EXIT_FAILED;
    }
    mj_buf_deinit(&c.errors);
    mj_buf_deinit(&c.warnings);
    mj_router_free(c.router);
    mj_scripts_free(c.scripts);
    mj_streams_free(c.streams);
    mj_config_deinit(&c.file);
    return r;
}

const struct mj_command mj_cmd_check = {
    .name = "check",
    .usage = "[moonjet.lua] [SCRIPT…]",
    .summary = "Load scripts without running them and print their graphs.",
    .details =
        "Runs the top level of each script, as `moonjet run` would with all of them, and prints "
        "what\n"
        "they draw: each node with its match, where its events go, and the file and line it comes\n"
        "from. A configuration file (moonjet.lua, or --config FILE) stands for the scripts it "
        "names.\n"
        "Secrets are made up. What does not load is an error, and the exit status 1; what loads\n"
        "and can hardly be meant is a warning: flows that end nowhere, nodes that no event can\n"
        "match, streams that nobody feeds, what is made and never used.",
    .options = options,
    .positional_max = MJ_STRINGS_MAX,
    .main = check_main,
};
