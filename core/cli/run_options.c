#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/http.h"
#include "base/log.h"
#include "cli/run.h"

const struct mj_option mj_run_options[] = {
    {"source", MJ_OPT_LIST, offsetof(struct run_cfg, sources), "URL",
     "firehose to read, repeatable; without a path " MJ_FIREHOSE_PATH
     " (without any: the public relay)",
     .env = "JETSTREAM_WS_URL"},
    {"listen", MJ_OPT_STR, offsetof(struct run_cfg, listen), "HOST:PORT",
     "where subscribers connect", .def = ":6008", .env = "JETSTREAM_LISTEN_ADDR", .group = "listen",
     .key = "stream"},
    {"metrics-listen", MJ_OPT_STR, offsetof(struct run_cfg, metrics_listen), "HOST:PORT",
     "where /metrics, /status and /_health answer", .def = "127.0.0.1:6009",
     .env = "JETSTREAM_METRICS_LISTEN_ADDR", .group = "listen", .key = "metrics"},
    {"data", MJ_OPT_STR, offsetof(struct run_cfg, data), "DIR",
     "keep events there, and how far each source was read; without it every start is live",
     .env = "JETSTREAM_DATA_DIR", .group = "journal", .path = true},
    {"cursor", MJ_OPT_INT, offsetof(struct run_cfg, cursor), "SEQ",
     "resume the source after this seq, whatever --data says; 0 = the oldest it has", .def = "-1",
     .env = "JETSTREAM_OVERRIDE_RELAY_CURSOR", .group = "source"},
    {"on-future-cursor", MJ_OPT_STR, offsetof(struct run_cfg, on_future), "stop|live|oldest",
     "when a source says our cursor is ahead of it", .def = "stop", .group = "source"},
    {"config", MJ_OPT_LIST, offsetof(struct run_cfg, config), "KEY=VALUE|FILE",
     "what scripts see as jet.config.KEY, repeatable; or, without \"=\", the configuration file"},
    {"script-memory", MJ_OPT_SIZE, offsetof(struct run_cfg, script_memory), "SIZE",
     "heap of one script", .def = "64M", .group = "scripting", .key = "memory"},
    {"retain", MJ_OPT_TIME, offsetof(struct run_cfg, retain), "TIME",
     "keep events that long under --data, 36h or 7d; 0 = keep nothing there", .def = "36h",
     .env = "JETSTREAM_EVENT_TTL", .group = "journal"},
    {"retain-bytes", MJ_OPT_SIZE, offsetof(struct run_cfg, retain_bytes), "SIZE",
     "keep at most that much under --data; 0 = keep nothing there", .def = "16G",
     .group = "journal"},
    {"sync", MJ_OPT_TIME, offsetof(struct run_cfg, sync), "TIME",
     "fsync that often; 0 = before anything is sent", .def = "1s", .group = "journal"},
    {"seal-after", MJ_OPT_SIZE, offsetof(struct run_cfg, seal_after), "SIZE",
     "newest events that are not compressed yet, for fast replay", .def = "512M",
     .group = "journal"},
    {"segment-bytes", MJ_OPT_SIZE, offsetof(struct run_cfg, segment_bytes), "SIZE",
     "events go by files of that size; 0 = 256M, less when little is kept", .group = "journal"},
    {"tail", MJ_OPT_SIZE, offsetof(struct run_cfg, tail), "SIZE",
     "without --data: events kept in memory for slow and returning subscribers", .def = "64M",
     .group = "journal"},
    {"why", MJ_OPT_SIZE, offsetof(struct run_cfg, why), "SIZE",
     "what became of the last events is remembered in so much memory, for moonjet ctl why; 0 = not "
     "at all",
     .def = "16M", .group = "scripting"},
    {"zstd-dictionary", MJ_OPT_STR, offsetof(struct run_cfg, dictionary), "FILE",
     "what compress=true needs (without: DATA/zstd_dictionary, then the installed one)",
     .env = "JETSTREAM_ZSTD_DICTIONARY_PATH", .group = "listen", .path = true},
    {"max-per-ip", MJ_OPT_INT, offsetof(struct run_cfg, max_per_ip), "N",
     "subscribers of one address; 0 = as many as there is room for", .group = "limits"},
    {"replay-rate", MJ_OPT_INT, offsetof(struct run_cfg, replay_rate), "N",
     "events per second that one address may catch up with; 0 = no limit",
     .env = "JETSTREAM_MAX_SUB_RATE", .group = "limits"},
    {"trusted-proxy", MJ_OPT_LIST, offsetof(struct run_cfg, trusted), "CIDR",
     "believe X-Forwarded-For of these peers, 127.0.0.1 or 10.0.0.0/8; repeatable",
     .group = "limits"},
    {"stall-seconds", MJ_OPT_INT, offsetof(struct run_cfg, stall_seconds), "N",
     "cut a subscriber that has acknowledged nothing for so long", .def = "60", .group = "limits"},
    {"log-level", MJ_OPT_STR, offsetof(struct run_cfg, log_level), "debug|info|warn|error",
     "least important line to log", .def = "info", .group = "log", .key = "level"},
    {"log-format", MJ_OPT_STR, offsetof(struct run_cfg, log_format), "text|json",
     "format of the log on stderr", .def = "text", .group = "log", .key = "format"},
    {"control", MJ_OPT_STR, offsetof(struct run_cfg, control), "PATH",
     "Unix socket for moonjet ctl (without: control.sock in --data, else moonjet.sock in "
     "$XDG_RUNTIME_DIR); none = no socket",
     .group = "listen", .path = true},
    {"http-allow", MJ_OPT_LIST, offsetof(struct run_cfg, http_allow), "HOST|CIDR",
     "scripts' requests may reach that, too, though it is not the public internet; repeatable",
     .group = "scripting"},
    {"plc", MJ_OPT_STR, offsetof(struct run_cfg, plc), "URL",
     "where did:plc documents are looked up for scripts", .def = "https://plc.directory",
     .group = "scripting"},
    {"dns", MJ_OPT_STR, offsetof(struct run_cfg, dns), "ADDRESS:PORT",
     "name server for handles (without: the system's)", .group = "scripting"},
    {"secrets", MJ_OPT_STR, offsetof(struct run_cfg, secrets), "DIR",
     "a file per secret that scripts may ask for by name", .group = "scripting", .path = true},
    {"plugins", MJ_OPT_LIST, offsetof(struct run_cfg, plugins), "DIR",
     "look for plug-ins there first, repeatable", .group = "scripting", .path = true},
    {"watch", MJ_OPT_FLAG, offsetof(struct run_cfg, watch), NULL,
     "reload scripts when their files change", .group = "scripting"},
    {"check-config", MJ_OPT_FLAG, offsetof(struct run_cfg, check_config), NULL,
     "read the configuration, load the scripts, run nothing; exit status 0 or 1"},
    {"print-config", MJ_OPT_FLAG, offsetof(struct run_cfg, print_config), NULL,
     "print what would be in force, as a configuration file"},
    {0}};

static int check_usage(const struct run_cfg *cfg)
{
    if (mj_log_level_parse(cfg->log_level) < 0) {
        fprintf(stderr, "moonjet run: --log-level %s: expected debug, info, warn or error\n",
                cfg->log_level);
        return MJ_EXIT_USAGE;
    }
    if (strcmp(cfg->log_format, "text") && strcmp(cfg->log_format, "json")) {
        fprintf(stderr, "moonjet run: --log-format %s: expected text or json\n", cfg->log_format);
        return MJ_EXIT_USAGE;
    }
    if (mj_on_future_parse(cfg->on_future) < 0) {
        fprintf(stderr, "moonjet run: --on-future-cursor %s: expected stop, live or oldest\n",
                cfg->on_future);
        return MJ_EXIT_USAGE;
    }
    if (cfg->cursor < -1) {
        fprintf(stderr, "moonjet run: --cursor %lld: expected a seq, 0 or more\n",
                (long long)cfg->cursor);
        return MJ_EXIT_USAGE;
    }
    if (cfg->cursor >= 0 && cfg->sources.n > 1) {
        fprintf(stderr, "moonjet run: --cursor goes with one --source: each source counts for "
                        "itself\n");
        return MJ_EXIT_USAGE;
    }
    for (size_t i = 0; i < cfg->sources.n; i++) {
        struct mj_url url;
        if (mj_url_parse(cfg->sources.v[i], &url)) {
            fprintf(stderr, "moonjet run: --source %s: expected a URL such as wss://bsky.network\n",
                    cfg->sources.v[i]);
            return MJ_EXIT_USAGE;
        }
        for (size_t k = 0; k < i; k++)
            if (strcmp(cfg->sources.v[i], cfg->sources.v[k]) == 0) {
                fprintf(stderr, "moonjet run: --source %s is given twice\n", cfg->sources.v[i]);
                return MJ_EXIT_USAGE;
            }
    }
    static const struct {
        const char *name;
        size_t offset;
        int64_t least, most;
    } numbers[] = {{"max-per-ip", offsetof(struct run_cfg, max_per_ip), 0, INT32_MAX},
                   {"replay-rate", offsetof(struct run_cfg, replay_rate), 0, INT32_MAX},
                   {"stall-seconds", offsetof(struct run_cfg, stall_seconds), 1, 86400},
                   {"segment-bytes", offsetof(struct run_cfg, segment_bytes), 0, 1 << 30},
                   {"why", offsetof(struct run_cfg, why), 0, INT64_C(1) << 32}};
    for (size_t i = 0; i < MJ_COUNT(numbers); i++) {
        int64_t v = *(const int64_t *)((const char *)cfg + numbers[i].offset);
        if (v < numbers[i].least || v > numbers[i].most) {
            fprintf(stderr, "moonjet run: --%s %lld: expected %lld to %lld\n", numbers[i].name,
                    (long long)v, (long long)numbers[i].least, (long long)numbers[i].most);
            return MJ_EXIT_USAGE;
        }
    }
    struct mj_hostport at;
    if (mj_hostport_parse(cfg->listen, &at)) {
        fprintf(stderr, "moonjet run: --listen %s: expected HOST:PORT or :PORT\n", cfg->listen);
        return MJ_EXIT_USAGE;
    }
    if (*cfg->metrics_listen && mj_hostport_parse(cfg->metrics_listen, &at)) {
        fprintf(stderr, "moonjet run: --metrics-listen %s: expected HOST:PORT or :PORT\n",
                cfg->metrics_listen);
        return MJ_EXIT_USAGE;
    }
    return 0;
}

/* What --config says: pairs, and at most one file. A script argument named moonjet.lua is the file,
 * too: it is what people type. */
static int split_config(struct run_settings *s)
{
    for (size_t i = 0; i < s->cfg.config.n; i++) {
        const char *text = s->cfg.config.v[i];
        if (strchr(text, '=')) {
            s->pairs.v[s->pairs.n++] = text;
        } else if (s->path) {
            fprintf(stderr,
                    "moonjet run: --config %s: %s is given already, and there can be one "
                    "configuration file (a value for scripts is KEY=VALUE)\n",
                    text, s->path);
            return MJ_EXIT_USAGE;
        } else {
            s->path = text;
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < s->scripts.n; i++) {
        const char *path = s->scripts.v[i], *slash = strrchr(path, '/');
        if (strcmp(slash ? slash + 1 : path, "moonjet.lua") != 0) {
            s->scripts.v[kept++] = path;
        } else if (s->path) {
            fprintf(stderr,
                    "moonjet run: %s: %s is given already, and there can be one "
                    "configuration file\n",
                    path, s->path);
            return MJ_EXIT_USAGE;
        } else {
            s->path = path;
        }
    }
    s->scripts.n = kept;
    return 0;
}

static const char *file_name(const struct mj_config *file)
{
    const char *slash = strrchr(file->path, '/');
    return slash ? slash + 1 : file->path;
}

/* The file's options go where neither the command line nor the environment has spoken. */
static int apply(const struct mj_config *file, const enum mj_opt_from *from, struct run_cfg *cfg,
                 struct mj_buf *error)
{
    for (size_t i = 0; i < file->option_count; i++) {
        const struct mj_config_option *o = &file->options[i];
        if (from[o->option - mj_run_options])
            continue;
        MJ_AUTO_BUF why = {0};
        int err = mj_option_set(o->option, cfg, o->value, &why);
        if (err) {
            mj_buf_printf(error, "%s:%u: --%s %s: %s", file_name(file), o->line, o->option->name,
                          o->value, mj_buf_cstr(&why));
            return err;
        }
    }
    return 0;
}

/* jet.config: the pairs go over what the file says, as later keys of the same table. */
static void add_pairs(struct mj_config_script *script, const struct mj_strings *pairs)
{
    struct mj_buf out = {0};
    if (!pairs->n)
        return;
    mj_buf_puts(&out, "{ ");
    if (script->config_lua && strcmp(script->config_lua, "{}") != 0)
        mj_buf_printf(&out, "%.*s, ", (int)strlen(script->config_lua) - 4, script->config_lua + 2);
    for (size_t i = 0; i < pairs->n; i++) {
        const char *eq = strchr(pairs->v[i], '=');
        mj_buf_puts(&out, i ? ", [" : "[");
        mj_lua_quote(mj_span(pairs->v[i], (size_t)(eq - pairs->v[i])), &out);
        mj_buf_puts(&out, "] = ");
        mj_lua_quote(mj_str(eq + 1), &out);
    }
    mj_buf_puts(&out, " }");
    mj_buf_cstr(&out);
    free(script->config_lua);
    script->config_lua = (char *)out.ptr;
}

/* What the command line and the options say about scripts. */
static void complete(struct mj_config *config, const struct run_settings *s,
                     const struct run_cfg *cfg)
{
    for (size_t i = 0; i < s->scripts.n; i++)
        mj_config_script(config, s->scripts.v[i]);
    for (size_t i = 0; i < config->script_count; i++) {
        struct mj_config_script *script = config->scripts[i];
        add_pairs(script, &s->pairs);
        script->cfg.config_lua = script->config_lua;
        script->cfg.secrets_dir = cfg->secrets;
        script->cfg.secrets = script->has_secrets ? &script->secrets : NULL;
        if (!script->cfg.memory)
            script->cfg.memory = (size_t)cfg->script_memory;
    }
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* What a script remembers, its metrics and its log lines are found by its file's name: each of two
 * scripts of one name would take the other's state for what it has itself given up. */
static int check_names(const struct mj_config *config, struct mj_buf *error)
{
    for (size_t i = 0; i < config->script_count; i++)
        for (size_t k = 0; k < i; k++) {
            const char *a = config->scripts[k]->path, *b = config->scripts[i]->path;
            if (strcmp(name_of(a), name_of(b)) != 0)
                continue;
            mj_buf_printf(error,
                          "%s: has the same name as %s, and so the same metrics and state; rename "
                          "one",
                          b, a);
            return MJ_EINVAL;
        }
    return 0;
}

static int read_file(const char *path, struct mj_config *out, struct mj_buf *error)
{
    MJ_AUTO_BUF notes = {0};
    int err = path ? mj_config_load(path, mj_run_options, out, &notes, error) : 0;
    if (notes.len)
        mj_log(MJ_LOG_WARN, "run", "%.*s", (int)notes.len - 1, mj_buf_cstr(&notes));
    return err;
}

int run_read_settings(const struct mj_command *cmd, int argc, char **argv, struct run_settings *s)
{
    *s = (struct run_settings){0};
    MJ_AUTO_BUF error = {0};
    int status = mj_options_parse_from(cmd, argc, argv, &s->cfg, &s->scripts, s->from);
    if (!status)
        status = split_config(s);
    if (!status &&
        (read_file(s->path, &s->file, &error) || apply(&s->file, s->from, &s->cfg, &error))) {
        fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
        status = MJ_EXIT_FAILED;
    }
    if (!status)
        status = check_usage(&s->cfg);
    if (status)
        return status;
    if (!s->cfg.sources.n)
        s->cfg.sources.v[s->cfg.sources.n++] = RUN_DEFAULT_SOURCE;
    complete(&s->file, s, &s->cfg);
    if (check_names(&s->file, &error)) {
        fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    return 0;
}

/* The values of one option in a file, one after the other; false at the end. */
static bool nth_value(const struct mj_config *c, const struct mj_option *o, size_t n,
                      const struct mj_config_option **out)
{
    for (size_t i = 0; i < c->option_count; i++)
        if (c->options[i].option == o && n-- == 0) {
            *out = &c->options[i];
            return true;
        }
    return false;
}

static bool option_changed(const struct mj_config *a, const struct mj_config *b,
                           const struct mj_option *o)
{
    for (size_t n = 0;; n++) {
        const struct mj_config_option *x = NULL, *y = NULL;
        bool in_a = nth_value(a, o, n, &x), in_b = nth_value(b, o, n, &y);
        if (in_a != in_b || (in_a && strcmp(x->value, y->value) != 0))
            return true;
        if (!in_a)
            return false;
    }
}

/* The name of an option in the file. */
static const char *key_of(const struct mj_option *o, char *out, size_t cap)
{
    snprintf(out, cap, "%s", o->key ? o->key : o->name);
    for (char *c = out; *c; c++)
        if (*c == '-')
            *c = '_';
    return out;
}

int run_read_again(const struct run_settings *s, struct mj_config *out, struct mj_buf *notes,
                   struct mj_buf *error)
{
    *out = (struct mj_config){0};
    struct run_cfg cfg = s->cfg; /* for its checks only: options stay as they are */
    int err = read_file(s->path, out, error);
    if (!err)
        err = apply(out, s->from, &cfg, error);
    if (err) {
        mj_config_deinit(out);
        return err;
    }
    for (const struct mj_option *o = mj_run_options; o->name; o++) {
        char key[64];
        bool source = strcmp(o->name, "source") == 0;
        if ((o->group || source) && !s->from[o - mj_run_options] &&
            option_changed(&s->file, out, o))
            mj_buf_printf(notes, "%s: %s%s%s has changed, which takes a restart\n", file_name(out),
                          source ? "" : o->group, source ? "" : ".", key_of(o, key, sizeof key));
    }
    complete(out, s, &s->cfg);
    err = check_names(out, error);
    if (err)
        mj_config_deinit(out);
    return err;
}

void run_settings_deinit(struct run_settings *s) { mj_config_deinit(&s->file); }

/* ---- --print-config ---- */

/* The result may be kept anywhere, so what it names is written from the root. */
static void put_path(const char *path, struct mj_buf *out)
{
    char dir[PATH_MAX];
    MJ_AUTO_BUF full = {0};
    if (*path && *path != '/' && getcwd(dir, sizeof dir))
        mj_buf_printf(&full, "%s/", dir);
    mj_buf_puts(&full, path);
    mj_lua_quote(mj_buf_span(&full), out);
}

static void put_value(const struct mj_option *o, const struct run_cfg *cfg, struct mj_buf *out)
{
    const void *at = (const char *)cfg + o->offset;
    const struct mj_strings *list = at;
    switch (o->type) {
    case MJ_OPT_FLAG:
        mj_buf_puts(out, *(const bool *)at ? "true" : "false");
        break;
    case MJ_OPT_STR:
        (o->path ? put_path(*(const char *const *)at, out)
                 : mj_lua_quote(mj_str(*(const char *const *)at), out));
        break;
    case MJ_OPT_INT:
        mj_buf_printf(out, "%" PRId64, *(const int64_t *)at);
        break;
    case MJ_OPT_SIZE:
    case MJ_OPT_TIME:
        mj_buf_putc(out, '"');
        (o->type == MJ_OPT_SIZE ? mj_config_size : mj_config_time)(*(const int64_t *)at, out);
        mj_buf_putc(out, '"');
        break;
    case MJ_OPT_LIST:
        for (size_t i = 0; i < list->n; i++) {
            mj_buf_puts(out, i ? ", " : "{ ");
            (o->path ? put_path(list->v[i], out) : mj_lua_quote(mj_str(list->v[i]), out));
        }
        mj_buf_puts(out, " }");
        break;
    }
}

/* True when there is something to print: no text, or an empty list, is as good as nothing. */
static bool has_value(const struct mj_option *o, const struct run_cfg *cfg)
{
    const void *at = (const char *)cfg + o->offset;
    return o->type == MJ_OPT_STR    ? *(const char *const *)at != NULL
           : o->type == MJ_OPT_LIST ? ((const struct mj_strings *)at)->n > 0
                                    : true;
}

static void print_group(const char *group, const struct run_cfg *cfg, struct mj_buf *out)
{
    for (const struct mj_option *o = mj_run_options; o->name; o++) {
        char key[64];
        if (!o->group || strcmp(o->group, group) != 0 || !has_value(o, cfg))
            continue;
        mj_buf_printf(out, "  %s = ", key_of(o, key, sizeof key));
        put_value(o, cfg, out);
        mj_buf_puts(out, ",\n");
    }
}

void run_print_settings(const struct run_settings *s, struct mj_buf *out)
{
    static const char *const groups[] = {"listen", "journal", "limits", "scripting", "log"};
    for (size_t i = 0; i < s->cfg.sources.n; i++) {
        mj_buf_puts(out, "source ");
        mj_lua_quote(mj_str(s->cfg.sources.v[i]), out);
        if (i + 1 == s->cfg.sources.n) { /* these are said once */
            mj_buf_puts(out, " {\n");
            print_group("source", &s->cfg, out);
            mj_buf_putc(out, '}');
        }
        mj_buf_putc(out, '\n');
    }
    for (size_t g = 0; g < MJ_COUNT(groups); g++) {
        mj_buf_printf(out, "%s {\n", groups[g]);
        print_group(groups[g], &s->cfg, out);
        mj_buf_puts(out, "}\n");
    }
    for (size_t i = 0; i < s->file.set_count; i++)
        mj_config_print_set(&s->file.sets[i], out);
    for (size_t i = 0; i < s->file.script_count; i++)
        mj_config_print_script(s->file.scripts[i], out);
}
