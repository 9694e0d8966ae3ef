/* moonjet ctl: talks to a running moonjet through its control socket. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cli/commands.h"
#include "cli/ctl.h"
#include "cli/repl_live.h"
#include "cli/why.h"
#include "state/members.h"

struct cfg {
    const char *socket, *data, *at, *plc, *dns;
    bool json, all, once, yes;
    int64_t interval;
};

static const struct mj_option options[] = {
    {"control", MJ_OPT_STR, offsetof(struct cfg, socket), "PATH",
     "the control socket, as --control of moonjet run (default: that of --data, or of a moonjet "
     "run by you without)"},
    {"data", MJ_OPT_STR, offsetof(struct cfg, data), "DIR", "the data directory of moonjet run",
     .env = "JETSTREAM_DATA_DIR"},
    {"json", MJ_OPT_FLAG, offsetof(struct cfg, json), NULL, "the answer as it came"},
    {"all", MJ_OPT_FLAG, offsetof(struct cfg, all), NULL,
     "reload: also scripts whose files are as they were; deliveries retry: every dead letter"},
    {"at", MJ_OPT_STR, offsetof(struct cfg, at), "TIME",
     "deliveries rewind: -2h, 2026-11-27T09:00:00Z, Unix seconds or microseconds, oldest or now"},
    {"plc", MJ_OPT_STR, offsetof(struct cfg, plc), "URL",
     "why: where did:plc documents are looked up"},
    {"dns", MJ_OPT_STR, offsetof(struct cfg, dns), "ADDRESS:PORT",
     "why: name server for handles (without: the system's)"},
    {"yes", MJ_OPT_FLAG, offsetof(struct cfg, yes), NULL, "deliveries: without asking"},
    {"once", MJ_OPT_FLAG, offsetof(struct cfg, once), NULL, "top: one table, then the end"},
    {"interval", MJ_OPT_TIME, offsetof(struct cfg, interval), "TIME",
     "top: from one table to the next", .def = "1s"},
    {0}};

static const struct command {
    const char *name;
    size_t min, max; /* arguments behind it */
    const char *usage, *help;
} commands[] = {
    {"status", 0, 0, "", "sources, journal, subscribers, memory"},
    {"scripts", 0, 0, "", "the scripts and how they are"},
    {"graph", 0, 1, "[SCRIPT]", "the nodes of all scripts, or of one"},
    {"top", 0, 0, "", "what each node does, live"},
    {"streams", 0, 0, "", "the streams and who reads them"},
    {"subscribers", 0, 0, "", "who is connected"},
    {"reload", 0, MJ_STRINGS_MAX, "[--all] [SCRIPT…]", "load scripts again that have changed"},
    {"set", 1, MJ_STRINGS_MAX, "list | show|clear NAME | add|remove NAME MEMBER… | load NAME FILE",
     "look at named sets, and change them"},
    {"why", 1, 1, "at://DID/COLLECTION/RKEY", "what became of a record, and why"},
    {"deliveries", 0, MJ_STRINGS_MAX,
     "list [NAME] | show|retry|purge NAME|LETTER | pause|resume|forget NAME | rewind NAME "
     "--at=TIME",
     "what webhooks, :each and plug-ins deliver, and dead letters"},
    {"metrics", 0, 0, "", "the metrics, in Prometheus' text form"},
    {"repl", 0, 1, "[SCRIPT]", "Lua inside the running moonjet"},
};

static void print_commands(FILE *to)
{
    for (size_t i = 0; i < MJ_COUNT(commands); i++) {
        fprintf(to, "  %s%s%s\n      %s\n", commands[i].name, *commands[i].usage ? " " : "",
                commands[i].usage, commands[i].help);
    }
}

static int usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("moonjet ctl: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return MJ_EXIT_USAGE;
}

static const struct command *find(const char *name)
{
    const char *names[MJ_COUNT(commands)];
    for (size_t i = 0; i < MJ_COUNT(commands); i++) {
        names[i] = commands[i].name;
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    const char *near = mj_closest(name, names, MJ_COUNT(names));
    usage("no command '%s'%s%s%s; there are:", name, near ? "; did you mean '" : "",
          near ? near : "", near ? "'?" : "");
    print_commands(stderr);
    return NULL;
}

/* The path of the socket; false after a message. */
static bool find_socket(const struct cfg *cfg, struct mj_buf *path)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (cfg->socket && *cfg->socket) {
        mj_buf_puts(path, cfg->socket);
    } else if (cfg->data && *cfg->data) {
        mj_buf_printf(path, "%s/control.sock", cfg->data);
    } else if (runtime && *runtime) {
        mj_buf_printf(path, "%s/moonjet.sock", runtime);
    } else {
        usage("which one? Give --control PATH, or --data DIR as moonjet run has it");
        return false;
    }
    mj_buf_cstr(path);
    return true;
}

/* The members of a file, written as jet.set reads them. */
static int put_members(const char *path, struct mj_buf *body)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    struct mj_members members = {0};
    MJ_AUTO_BUF text = {0};
    MJ_AUTO_BUF error = {0};
    char some[65536];
    size_t n;
    while (file && (n = fread(some, 1, sizeof some, file)) && text.len <= MJ__CTL_REQUEST_MAX)
        mj_buf_put(&text, some, n);
    bool bad = !file || ferror(file);
    if (bad)
        mj_buf_puts(&error, strerror(errno));
    else if ((bad = text.len > MJ__CTL_REQUEST_MAX))
        mj_buf_printf(&error, "larger than %u MiB", MJ__CTL_REQUEST_MAX >> 20);
    if (file && file != stdin)
        fclose(file);
    bad = bad || mj_members_parse(&members, mj_buf_span(&text), &error);
    if (bad)
        fprintf(stderr, "moonjet ctl: %s: %s\n", path, mj_buf_cstr(&error));
    struct mj_span rest = mj_buf_span(&members.bytes), member;
    while (body->len <= MJ__CTL_REQUEST_MAX && mj_members_next(&rest, &member)) {
        mj_buf_putc(body, ',');
        mj_buf_put_json(body, member);
    }
    mj_members_deinit(&members);
    return bad ? MJ_EXIT_FAILED : 0;
}

static int make_body(const struct cfg *cfg, const struct command *c, const struct mj_strings *pos,
                     struct mj_buf *body)
{
    bool load = strcmp(c->name, "set") == 0 && strcmp(pos->v[1], "load") == 0;
    size_t n = pos->n;
    if (load && n != 4)
        return usage("set load wants NAME and FILE (- for standard input)");
    if (load)
        n--;
    mj_buf_puts(body, "{\"args\":[");
    if (cfg->all && strcmp(c->name, "reload") == 0)
        mj_buf_puts(body, "\"--all\"");
    for (size_t i = 1; i < n; i++) {
        mj_buf_puts(body, body->ptr[body->len - 1] == '[' ? "" : ",");
        mj_buf_put_json(body, mj_str(pos->v[i]));
    }
    int r = load ? put_members(pos->v[3], body) : 0;
    mj_buf_puts(body, "]}");
    return r;
}

/* One question; its answer, or an exit code after a message. */
static int ask(const char *socket, const char *command, struct mj_span body,
               struct mj__ctl_answer *answer)
{
    MJ_AUTO_BUF error = {0};
    if (mj__ctl_ask(socket, command, body, answer, &error)) {
        fprintf(stderr, "moonjet ctl: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    if (mj__ctl_error(answer, &error).len) {
        fprintf(stderr, "moonjet ctl: %s: %s\n", command, mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    return 0;
}

/* ---- top ---- */

static int sample(const char *socket, struct mj__ctl_sample *out)
{
    struct mj__ctl_answer answer = {0};
    int r = ask(socket, "metrics", MJ_SPAN("{\"args\":[]}"), &answer);
    if (!r)
        mj__ctl_sample_read(out, mj_buf_span(&answer.body), mj_mono_us());
    mj_buf_deinit(&answer.body);
    return r;
}

static size_t terminal_lines(void)
{
    struct winsize w;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 4 ? w.ws_row - 1 : 24;
}

static int top(const struct cfg *cfg, const char *socket)
{
    struct mj__ctl_sample before = {0}, now = {0};
    bool live = !cfg->once && isatty(STDOUT_FILENO);
    int64_t interval = cfg->interval < 100000 ? 100000 : cfg->interval;
    int r = sample(socket, &before);
    while (!r) {
        MJ_AUTO_BUF out = {0};
        poll(NULL, 0, (int)(interval / 1000));
        if ((r = sample(socket, &now)))
            break;
        if (live) /* lines that are too long are cut, not wrapped; home, and all clear */
            mj_buf_puts(&out, "\033[?7l\033[H\033[2J");
        mj__ctl_top(&before, &now, live ? terminal_lines() : SIZE_MAX, &out);
        if (live)
            mj_buf_puts(&out, "\033[?7h");
        if (out.len)
            fwrite(out.ptr, 1, out.len, stdout);
        if (fflush(stdout) || !live)
            break;
        mj__ctl_sample_deinit(&before);
        before = now;
        now = (struct mj__ctl_sample){0};
    }
    mj__ctl_sample_deinit(&before);
    mj__ctl_sample_deinit(&now);
    return r;
}

/* ---- all ---- */

static int show_answer(const struct cfg *cfg, const struct mj__ctl_answer *answer)
{
    MJ_AUTO_BUF out = {0};
    struct mj_span body = mj_buf_span(&answer->body);
    if (cfg->json || !answer->is_json || !mj__ctl_show(body, &out)) {
        mj_buf_put(&out, body.ptr, body.len);
        if (out.len && out.ptr[out.len - 1] != '\n')
            mj_buf_putc(&out, '\n');
    } else if (!out.len) {
        mj_buf_puts(&out, "done\n");
    }
    if (out.len)
        fwrite(out.ptr, 1, out.len, stdout);
    return fflush(stdout) ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}

static int ctl_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    const struct command *c = find(pos.v[0]);
    if (!c)
        return MJ_EXIT_USAGE;
    if (pos.n - 1 < c->min || pos.n - 1 > c->max)
        return usage("%s wants %s", c->name, c->max ? c->usage : "nothing behind it");
    MJ_AUTO_BUF socket = {0};
    MJ_AUTO_BUF body = {0};
    if (!find_socket(&cfg, &socket))
        return MJ_EXIT_USAGE;
    if (strcmp(c->name, "repl") == 0)
        return mj__repl_live(mj_buf_cstr(&socket), pos.n > 1 ? pos.v[1] : NULL);
    if (strcmp(c->name, "top") == 0)
        return top(&cfg, mj_buf_cstr(&socket));
    if (strcmp(c->name, "why") == 0)
        return mj__ctl_why(mj_buf_cstr(&socket), pos.v[1], &(struct why_lookup){cfg.plc, cfg.dns},
                           cfg.json);
    if (strcmp(c->name, "deliveries") == 0) {
        const struct mj__ctl_deliveries given = {pos.v + 1, pos.n - 1, cfg.at,
                                                 cfg.all,   cfg.yes,   cfg.json};
        return mj__ctl_deliveries(mj_buf_cstr(&socket), &given);
    }
    struct mj__ctl_answer answer = {0};
    if (!(r = make_body(&cfg, c, &pos, &body)) &&
        !(r = ask(mj_buf_cstr(&socket), c->name, mj_buf_span(&body), &answer)))
        r = show_answer(&cfg, &answer);
    mj_buf_deinit(&answer.body);
    return r;
}

const struct mj_command mj_cmd_ctl = {
    .name = "ctl",
    .usage = "COMMAND …",
    .summary = "Look at a running moonjet, and tell it what to do.",
    .details =
        "Commands:\n"
        "  status                     sources, journal, subscribers\n"
        "  scripts                    the scripts, and how they are\n"
        "  graph [SCRIPT]             the nodes of all scripts, or of one\n"
        "  top                        what each node does, live; --once for one table\n"
        "  streams, subscribers       the streams, and who reads them\n"
        "  reload [--all] [SCRIPT…]   load scripts again that have changed, or all\n"
        "  set list                   named sets, and how many members they have\n"
        "  set show|clear NAME\n"
        "  set add|remove NAME MEMBER…\n"
        "  set load NAME FILE         these members instead of what it has; one a line\n"
        "  why at://DID/COLL/RKEY     what became of a record: its verdict at each node, and "
        "where\n"
        "                             it went; also a link to a post, or a DID for its account\n"
        "                             events. Exit status 1: it never arrived; 2: no answer\n"
        "  deliveries [list [NAME]]   what webhooks, :each and plug-ins deliver\n"
        "  deliveries show NAME       one of them, and its dead letters\n"
        "  deliveries show LETTER     a dead letter: its number, or its first evt_…\n"
        "  deliveries retry|purge NAME|LETTER (retry --all)\n"
        "  deliveries pause|resume NAME\n"
        "  deliveries rewind NAME --at=-2h\n"
        "  deliveries forget NAME     of a script that is no more\n"
        "  metrics                    in Prometheus' text form\n"
        "  repl [SCRIPT]              Lua inside the running moonjet\n"
        "\n"
        "The socket answers HTTP, to the user whom moonjet runs as: curl --unix-socket does, too.",
    .options = options,
    .positional_min = 1,
    .positional_max = MJ_STRINGS_MAX,
    .main = ctl_main,
};
