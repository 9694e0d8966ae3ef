#include "cli/prompt.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/dirs.h"
#include "base/err.h"
#include "base/options.h"

#ifdef MOONJET_EDIT
#include <editline/readline.h>
#endif

struct prompt {
    const struct mj__prompt_cfg *cfg;
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
    if (running && current->cfg->interrupt)
        current->cfg->interrupt(current->cfg->ctx);
    if (!running && may_jump)
        siglongjmp(at_prompt, 1);
}

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
        current->cfg->complete(current->cfg->ctx, text, add_word, &words);
    }
    return at < words.n ? (char *)words.v[at++] : NULL;
}

static char **complete(const char *text, int start, int end)
{
    (void)start;
    (void)end;
    rl_attempted_completion_over = 1; /* no file names */
    if (!current->cfg->complete)
        return NULL;
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
    int result = p->cfg->eval(p->cfg->ctx, mj_buf_span(&p->code), &out);
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

int mj__prompt_run(const struct mj__prompt_cfg *cfg)
{
    struct prompt p = {.cfg = cfg, .terminal = isatty(STDIN_FILENO)};
    if (p.terminal)
        printf("Moonjet %s. help() tells what there is; Ctrl-D ends.\n", MOONJET_VERSION);
    run(&p);
    mj_buf_deinit(&p.code);
    free(p.history);
    return p.failed && !p.terminal ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}
