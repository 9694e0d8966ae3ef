#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/run.h"

#define VARIABLE  "MOONJET_RESTARTS"
#define FORGET_US INT64_C(600000000)
#define LOOP_US   INT64_C(60000000)
#define LOOP      3
#define TEXT_MAX  (128u << 10) /* of all notes */
#define ENV_MAX   4096         /* variables */
#define ARGS_MAX  4096

/* ---- reading ---- */

static bool copy_field(struct mj_span field, char *out, size_t cap)
{
    if (!field.len || field.len >= cap || memchr(field.ptr, 0, field.len))
        return false;
    memcpy(out, field.ptr, field.len);
    out[field.len] = 0;
    return true;
}

static struct mj_span take(struct mj_span *rest, char end)
{
    const uint8_t *at = rest->len ? memchr(rest->ptr, end, rest->len) : NULL;
    struct mj_span part = mj_span(rest->ptr, at ? (size_t)(at - rest->ptr) : rest->len);
    size_t used = part.len + (at != NULL);
    *rest = mj_span(rest->ptr + used, rest->len - used);
    return part;
}

static bool is_known(const struct run_notes *n, const struct run_note *note)
{
    for (size_t i = 0; i < n->count; i++)
        if (n->notes[i].us == note->us && strcmp(n->notes[i].path, note->path) == 0)
            return true;
    return false;
}

static void add_note(struct run_notes *n, const struct run_note *note)
{
    if (is_known(n, note)) /* the file and the environment say the same */
        return;
    if (n->count == RUN_NOTES_MAX)
        memmove(n->notes, n->notes + 1, --n->count * sizeof *n->notes);
    n->notes[n->count++] = *note;
}

static void parse_line(struct run_notes *n, struct mj_span line, int64_t now_us)
{
    struct mj_span first = take(&line, '\t'), second = take(&line, '\t');
    int64_t seq;
    if (mj_span_is(first, "cursor")) {
        size_t i = n->cursor_count;
        if (i < MJ_SOURCES_MAX && mj_span_i64(second, &seq) == 0 && seq >= 0 &&
            copy_field(line, n->cursors[i].url, sizeof n->cursors[i].url)) {
            n->cursors[i].seq = seq;
            n->cursor_count++;
        }
        return;
    }
    struct run_note note;
    if (mj_span_i64(first, &note.us) == 0 && note.us <= now_us && note.us > now_us - FORGET_US &&
        copy_field(second, note.what, sizeof note.what) &&
        copy_field(line, note.path, sizeof note.path))
        add_note(n, &note);
}

void run_notes_parse(struct run_notes *n, struct mj_span text, int64_t now_us)
{
    while (text.len)
        parse_line(n, take(&text, '\n'), now_us);
}

void run_notes_read(struct run_notes *n, const char *data)
{
    int64_t now = mj_now_us();
    MJ_AUTO_BUF text = {0};
    if (data) {
        MJ_AUTO_BUF path = {0};
        mj_buf_printf(&path, "%s/restarts", data);
        int fd = open(mj_buf_cstr(&path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        mj_buf_reserve(&text, TEXT_MAX);
        ssize_t got = fd < 0 ? 0 : read(fd, text.ptr, TEXT_MAX);
        text.len = got > 0 ? (size_t)got : 0;
        if (fd >= 0)
            close(fd);
        run_notes_parse(n, mj_buf_span(&text), now);
    }
    const char *env = getenv(VARIABLE);
    if (env)
        run_notes_parse(n, mj_str(env), now);
    unsetenv(VARIABLE);
}

unsigned run_notes_count(const struct run_notes *n, const char *path, bool *out, bool *loading)
{
    unsigned count = 0;
    *out = *loading = false;
    int64_t recent[LOOP] = {0};
    for (size_t i = 0; i < n->count; i++) {
        if (strcmp(n->notes[i].path, path) != 0)
            continue;
        recent[count++ % LOOP] = n->notes[i].us;
        *loading |= strcmp(n->notes[i].what, "loading") == 0;
        /* The ring's next place holds the note before the two before this one. */
        if (count >= LOOP && n->notes[i].us - recent[count % LOOP] <= LOOP_US)
            *out = true;
    }
    return count;
}

/* ---- restarting: on the watchdog's thread, beside one that may hold any lock ---- */

static struct {
    struct run *run;       /* borrowed */
    char *args[ARGS_MAX];  /* borrowed */
    char *env[ENV_MAX];    /* borrowed */
    char text[TEXT_MAX];   /* VARIABLE=notes */
    size_t len, notes_len; /* of text; up to where notes from before go */
    char file[4096];       /* "" for none */
    _Atomic int phase;
} restart;

enum { LOADING, RUNNING, ENDING };

static void put(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void put(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    size_t room = sizeof restart.text - restart.len;
    int n = vsnprintf(restart.text + restart.len, room, fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < room) /* what does not fit is left out, whole lines at a time */
        restart.len += (size_t)n;
    restart.text[restart.len] = 0;
}

void run_restart_setup(struct run *run, char **argv, const struct run_notes *notes)
{
    extern char **environ;
    restart.run = run;
    restart.args[0] = (char *)"moonjet";
    restart.args[1] = (char *)"run";
    for (size_t i = 1; argv[i] && i + 2 < ARGS_MAX; i++)
        restart.args[i + 1] = argv[i];
    size_t n = 0;
    for (char **e = environ; *e && n + 2 < ENV_MAX; e++)
        restart.env[n++] = *e;
    restart.env[n] = restart.text;
    if (run->data.path)
        snprintf(restart.file, sizeof restart.file, "%s/restarts", run->data.path);
    restart.len = 0;
    put(VARIABLE "=");
    for (size_t i = 0; i < notes->count; i++)
        put("%" PRId64 "\t%s\t%s\n", notes->notes[i].us, notes->notes[i].what,
            notes->notes[i].path);
}

void run_restart_armed(void) { atomic_store(&restart.phase, RUNNING); }

void run_restart_disarm(void) { atomic_store(&restart.phase, ENDING); }

static void say(const char *text)
{
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

/* The note must be there when exec fails and somebody else starts us again. */
static void keep_notes(void)
{
    size_t skip = strlen(VARIABLE "=");
    int fd =
        *restart.file ? open(restart.file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    ssize_t n = write(fd, restart.text + skip, restart.len - skip);
    if (n < 0 || fsync(fd))
        say("moonjet run: the note of the restart cannot be kept in the data directory\n");
    close(fd);
}

void run_restart(void *ctx, const struct mj_stuck *stuck)
{
    (void)ctx;
    static const char *const what_next[] = {
        "it cannot be loaded", "starting again with the script in quarantine", "ending without it"};
    int phase = atomic_load(&restart.phase);
    /* Asked to end, and the loop cannot hear of it. The next process would know nothing of that. */
    if (phase == RUNNING && mj_loop_stopped(restart.run->loop))
        phase = ENDING;
    char line[1400];
    snprintf(line, sizeof line,
             "moonjet run: %s is stuck in %s, inside a C function that nothing can stop; %s\n",
             stuck->path, stuck->doing, what_next[phase]);
    say(line);
    if (phase != RUNNING)
        _exit(MJ_EXIT_FAILED);
    put("%" PRId64 "\t%.79s\t%s\n", mj_now_us(), stuck->doing, stuck->path);
    keep_notes();
    for (size_t i = 0; !restart.run->on_disk && i < restart.run->source_count; i++) {
        struct source *s = &restart.run->sources[i];
        int64_t seq = atomic_load_explicit(&s->seq, memory_order_relaxed);
        if (seq >= 0)
            put("cursor\t%" PRId64 "\t%s\n", seq, s->url);
    }
    /* Descriptors that libraries opened without O_CLOEXEC would stay open for ever. */
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    execve("/proc/self/exe", restart.args, restart.env);
    say("moonjet run: cannot start again; ending\n");
    abort();
}
