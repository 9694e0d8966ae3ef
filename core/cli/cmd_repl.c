/* moonjet repl: Lua at a prompt, in a script's VM. With a terminal lines are edited (libedit, where
 * the build has it); without, they are read as they come, so that a session can be a file. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/dirs.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/recording.h"
#include "script/repl.h"

#ifdef MOONJET_EDIT
#include <editline/readline.h>
#endif

#define EVENTS_BYTES ((size_t)1 << 30) /* of a recording that is held */

struct cfg {
    const char *events;
    struct mj_strings config;
};

static const struct mj_option options[] = {
    {.name = "events",
     .type = MJ_OPT_STR,
     .offset = offsetof(struct cfg, events),
     .arg = "FILE",
     .help = "a recording to look at: a capture, or Jetstream JSON lines"},
    {.name = "config",
     .type = MJ_OPT_LIST,
     .offset = offsetof(struct cfg, config),
     .arg = "KEY=VALUE",
     .help = "what the script reads as jet.config.KEY"},
    {0}};

struct prompt {
    struct mj_repl *repl;
    struct mj_buf code; /* lines so far */
    bool terminal;
    bool failed;
    char *history; /* owned: file; NULL for none */
};

/* The one prompt there is, for signals and for the line editor, which know no context. */
static struct prompt *current;
static volatile sig_atomic_t running;
static sigjmp_buf at_prompt;
static volatile sig_atomic_t may_jump;

/* Ctrl-C stops what runs; at the prompt it drops what was typed. */
static void on_interrupt(int sig)
{
    (void)sig;
    if (running)
        mj_repl_interrupt(current->repl);
    else if (may_jump)
        siglongjmp(at_prompt, 1);
}

/* ---- events ---- */

struct events {
    struct mj_kept **v;
    size_t n, cap, bytes;
};

static int keep_event(void *ctx, struct mj_event *ev)
{
    struct events *e = ctx;
    if (mj_record_check(ev->record) && ev->record.len)
        return 0; /* no script would see it */
    if (e->n == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 1024;
        e->v = mj_realloc(e->v, e->cap * sizeof *e->v);
    }
    ev->record_checked = true;
    if (!ev->time_us) /* of a capture: when the upstream had it */
        mj_datetime_us(ev->time, &ev->time_us);
    e->v[e->n] = mj_kept_new(ev);
    e->bytes += mj_kept_size(e->v[e->n++]);
    return e->bytes > EVENTS_BYTES ? MJ_ELIMIT : 0;
}

/* ---- lines ---- */

#ifdef MOONJET_EDIT

static void add_word(void *ctx, const char *word)
{
    struct mj_strings *words = ctx;
    if (words->n < MJ_STRINGS_MAX)
        words->v[words->n++] = mj_strdup(word);
}

/* Called with state 0, then again and again until it returns NULL; what it returns is freed. */
static char *next_word(const char *text, int state)
{
    static struct mj_strings words;
    static size_t at;
    if (!state) {
        words.n = at = 0;
        mj_repl_complete(current->repl, text, add_word, &words);
    }
    return at < words.n ? (char *)words.v[at++] : NULL;
}

static char **complete(const char *text, int start, int end)
{
    (void)start;
    (void)end;
    rl_attempted_completion_over = 1; /* no file names */
    return rl_completion_matches(text, next_word);
}

static void start_editor(struct prompt *p)
{
    static char breaks[] = " \t\n\"'`(){}[]=+-*/^%#<>,;~&|";
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    MJ_AUTO_BUF dir = {0};
    rl_readline_name = "moonjet";
    rl_initialize();
    rl_attempted_completion_function = complete;
    rl_completer_word_break_characters = breaks;
    rl_completion_append_character = 0;
    using_history();
    stifle_history(1000);
    if (state && *state)
        mj_buf_printf(&dir, "%s/moonjet", state);
    else if (home && *home)
        mj_buf_printf(&dir, "%s/.local/state/moonjet", home);
    else
        return;
    if (mj_make_dirs(mj_buf_cstr(&dir)))
        return; /* a prompt without a memory is better than none */
    mj_buf_puts(&dir, "/history");
    p->history = mj_strdup(mj_buf_cstr(&dir));
    read_history(p->history);
}

static char *edit_line(struct prompt *p, const char *prompt)
{
    char *line = readline(prompt);
    if (line && *line) {
        add_history(line);
        if (p->history)
            write_history(p->history);
    }
    return line;
}

#else

static void start_editor(struct prompt *p) { (void)p; }

static char *edit_line(struct prompt *p, const char *prompt)
{
    (void)p;
    char *line = NULL;
    size_t cap = 0;
    fputs(prompt, stdout);
    fflush(stdout);
    if (getline(&line, &cap, stdin) >= 0)
        return line;
    free(line);
    return NULL;
}

#endif

/* The next line, which the caller frees; NULL at the end. */
static char *read_line(struct prompt *p)
{
    if (p->terminal)
        return edit_line(p, p->code.len ? ">> " : "> ");
    char *line = NULL;
    size_t cap = 0;
    if (getline(&line, &cap, stdin) >= 0)
        return line;
    free(line);
    return NULL;
}

static void evaluate(struct prompt *p, bool last)
{
    MJ_AUTO_BUF out = {0};
    running = 1;
    int result = mj_repl_eval(p->repl, mj_buf_span(&p->code), &out);
    running = 0;
    if (result == MJ_ETRUNC && !last)
        return; /* the code goes on */
    if (result == MJ_ETRUNC)
        mj_buf_puts(&out, "the code ends in the middle\n");
    fwrite(out.ptr ? (const char *)out.ptr : "", 1, out.len, result ? stderr : stdout);
    fflush(stdout);
    p->failed |= result != 0;
    p->code.len = 0;
}

static void run(struct prompt *p)
{
    char *line;
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    current = p;
    if (p->terminal) {
        start_editor(p);
        sigaction(SIGINT, &action, NULL);
        if (sigsetjmp(at_prompt, 1)) {
            p->code.len = 0;
            fputs("\n", stdout);
        }
    }
    for (;;) {
        may_jump = 1;
        line = read_line(p);
        may_jump = 0;
        if (!line)
            break;
        mj_buf_puts(&p->code, line);
        if (!p->code.len || p->code.ptr[p->code.len - 1] != '\n')
            mj_buf_putc(&p->code, '\n');
        free(line);
        evaluate(p, false);
    }
    if (p->code.len)
        evaluate(p, true);
    if (p->terminal)
        fputs("\n", stdout);
}

static int repl_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    mj_log_setup(MJ_LOG_WARN, false);
    MJ_AUTO_BUF error = {0};
    struct events events = {0};
    if (cfg.events) {
        int err = mj_recording_read(cfg.events, keep_event, &events, &error);
        if (err == MJ_ELIMIT && !error.len) {
            fprintf(stderr, "%s: only its first %zu events are held\n", cfg.events, events.n);
        } else if (err) {
            fprintf(stderr, "moonjet repl: %s\n", mj_buf_cstr(&error));
            for (size_t i = 0; i < events.n; i++)
                mj_kept_unref(events.v[i]);
            free(events.v);
            return MJ_EXIT_FAILED;
        }
    }
    struct mj_script_cfg script = {.config = &cfg.config};
    struct prompt p = {.terminal = isatty(STDIN_FILENO)};
    p.repl = mj_repl_new(pos.n ? pos.v[0] : NULL, &script, events.v, events.n, &error);
    if (!p.repl) {
        fprintf(stderr, "moonjet repl: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    if (p.terminal)
        printf("Moonjet %s. help() tells what there is; Ctrl-D ends.\n", MOONJET_VERSION);
    run(&p);
    mj_repl_free(p.repl);
    mj_buf_deinit(&p.code);
    free(p.history);
    return p.failed && !p.terminal ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}

const struct mj_command mj_cmd_repl = {
    .name = "repl",
    .usage = "[SCRIPT]",
    .summary = "Lua at a prompt, in a script, over recorded events.",
    .details =
        "Loads SCRIPT as `moonjet run` would and takes lines of Lua: expressions are printed, the\n"
        "script's locals can be read, called and changed. With --events, `ev` is an event of the\n"
        "recording: next() and find(match) go on to another, try(match, function) counts those\n"
        "that pass, send() runs ev through the script's flows. help() lists it. Without a\n"
        "terminal, lines are read from stdin, and the exit status is 1 when one of them failed.",
    .options = options,
    .positional_max = 1,
    .main = repl_main,
};
