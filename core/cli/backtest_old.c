/* The old scripts' side, in a process of its own: it reads the same input and writes its outcomes
 * into a pipe.
 *
 *   head      u32 number of outlets, then each: u8 main, u32 length, name
 *   outcome   struct record, the hits, uri, text
 *   mark      the same with no hits: so far nothing else
 *   end       ordinal UINT64_MAX; its uri holds the number of script errors, eight bytes
 *
 * Both ends are the same program on the same machine, so structs travel as they are. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cli/backtest.h"

#define TEXT_MAX 300u /* bytes of a text that travel: an example shows no more */

struct record {
    uint64_t ordinal;
    uint32_t hits, uri, text;
    uint32_t unused;
};

struct mj__other {
    pid_t pid;
    FILE *pipe; /* owned */
    struct mj__outlet outlets[MJ__OUTLETS_MAX];
    size_t outlet_count;
    struct mj__hit *hits; /* owned */
    size_t hit_cap;
    struct mj_buf text; /* owned: uri and text of the outcome */
    bool ended, whole;  /* whole: it came to its end */
    uint64_t errors;
};

/* ---- the process ---- */

struct child {
    FILE *pipe;
    struct mj__side *side;
    struct mj__backtest_input *in;
    uint64_t ordinal, marked;
};

/* Whoever reads has gone: nobody is interested any more. */
static void put(struct child *c, const void *p, size_t n)
{
    if (n && fwrite(p, 1, n, c->pipe) != n)
        _exit(MJ_EXIT_FAILED);
}

static void put_record(struct child *c, const struct mj__outcome *o)
{
    struct record r = {.ordinal = o->ordinal,
                       .hits = (uint32_t)o->count,
                       .uri = (uint32_t)o->uri.len,
                       .text = (uint32_t)(o->text.len < TEXT_MAX ? o->text.len : TEXT_MAX)};
    put(c, &r, sizeof r);
    put(c, o->hits, o->count * sizeof *o->hits);
    put(c, o->uri.ptr, r.uri);
    put(c, o->text.ptr, r.text);
}

static void child_outcome(void *ctx, const struct mj__outcome *o)
{
    struct child *c = ctx;
    c->marked = o->ordinal;
    put_record(c, o);
}

static bool child_wants(void *ctx, const struct mj_event *like)
{
    return mj__side_wants(((struct child *)ctx)->side, like);
}

static void child_event(void *ctx, uint64_t ordinal, struct mj_event *ev)
{
    struct child *c = ctx;
    c->ordinal = ordinal;
    mj__side_event(c->side, ordinal, ev);
}

/* So that the reader, who may be waiting for what came of an event, knows that nothing did. */
static void child_tick(void *ctx)
{
    struct child *c = ctx;
    struct mj__outcome mark = {.ordinal = c->ordinal};
    mj__side_tick(c->side);
    if (c->ordinal != c->marked)
        put_record(c, &mark);
    c->marked = c->ordinal;
    fflush(c->pipe);
}

static int child_main(struct child *c, const struct mj_strings *scripts,
                      const struct mj_strings *config, size_t memory)
{
    MJ_AUTO_BUF error = {0};
    c->side = mj__side_new(scripts, config, memory, &error);
    if (!c->side) {
        fprintf(stderr, "moonjet backtest: --old: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    mj__side_on_outcome(c->side, child_outcome, c);
    uint32_t n = (uint32_t)mj__side_outlets(c->side);
    put(c, &n, sizeof n);
    for (size_t i = 0; i < n; i++) {
        const struct mj__outlet *outlet = mj__side_outlet(c->side, i);
        uint32_t len = (uint32_t)strlen(outlet->name);
        uint8_t main = outlet->main;
        put(c, &main, 1);
        put(c, &len, sizeof len);
        put(c, outlet->name, len);
    }
    fflush(c->pipe);
    c->in->ctx = c;
    c->in->wants = child_wants;
    c->in->event = child_event;
    c->in->tick = child_tick;
    if (mj__backtest_read(c->in, &error)) {
        fprintf(stderr, "moonjet backtest: --old: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    uint64_t errors = 0;
    for (size_t i = 0; i < mj__side_nodes(c->side); i++)
        errors += (uint64_t)mj__side_node(c->side, i).errors;
    struct mj__outcome end = {.ordinal = UINT64_MAX, .uri = mj_span(&errors, sizeof errors)};
    put_record(c, &end);
    return fflush(c->pipe) ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}

struct mj__other *mj__other_start(struct mj__backtest_input *in, const struct mj_strings *scripts,
                                  const struct mj_strings *config, size_t memory,
                                  struct mj_buf *error)
{
    int ends[2];
    if (pipe(ends)) {
        mj_buf_printf(error, "cannot make a pipe: %s", strerror(errno));
        return NULL;
    }
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        mj_buf_printf(error, "cannot start a process for --old: %s", strerror(errno));
        close(ends[0]);
        close(ends[1]);
        return NULL;
    }
    if (!pid) {
        close(ends[0]);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(MJ_EXIT_FAILED);
        struct child c = {.pipe = fdopen(ends[1], "wb"), .in = in};
        int status = c.pipe ? child_main(&c, scripts, config, memory) : MJ_EXIT_FAILED;
        fflush(stderr);
        _exit(status);
    }
    close(ends[1]);
    struct mj__other *o = mj_calloc(1, sizeof *o);
    o->pid = pid;
    o->pipe = fdopen(ends[0], "rb");
    return o;
}

/* ---- its reader ---- */

static bool get(struct mj__other *o, void *to, size_t n)
{
    return !n || fread(to, 1, n, o->pipe) == n;
}

int mj__other_ready(struct mj__other *o)
{
    uint32_t n, len;
    uint8_t main;
    if (!o->pipe || !get(o, &n, sizeof n) || n > MJ__OUTLETS_MAX)
        return MJ_EINVAL;
    for (; o->outlet_count < n; o->outlet_count++) {
        if (!get(o, &main, 1) || !get(o, &len, sizeof len) || len > 4096)
            return MJ_EINVAL;
        char *name = mj_calloc(1, len + 1);
        o->outlets[o->outlet_count] = (struct mj__outlet){name, main};
        if (!get(o, name, len)) {
            o->outlet_count++;
            return MJ_EINVAL;
        }
    }
    return 0;
}

size_t mj__other_outlets(const struct mj__other *o) { return o->outlet_count; }

const struct mj__outlet *mj__other_outlet(const struct mj__other *o, size_t i)
{
    return &o->outlets[i];
}

bool mj__other_next(struct mj__other *o, struct mj__outcome *out)
{
    struct record r;
    if (o->ended || !get(o, &r, sizeof r) || r.hits > MJ__OUTLETS_MAX || r.uri > 1u << 20 ||
        r.text > TEXT_MAX) {
        o->ended = true;
        return false;
    }
    if (r.hits > o->hit_cap) {
        o->hit_cap = MJ__OUTLETS_MAX;
        o->hits = mj_realloc(o->hits, o->hit_cap * sizeof *o->hits);
    }
    o->text.len = 0;
    mj_buf_reserve(&o->text, (size_t)r.uri + r.text);
    if (!get(o, o->hits, r.hits * sizeof *o->hits) ||
        !get(o, o->text.ptr, (size_t)r.uri + r.text)) {
        o->ended = true;
        return false;
    }
    if (r.ordinal == UINT64_MAX) {
        if (r.uri == sizeof o->errors)
            memcpy(&o->errors, o->text.ptr, sizeof o->errors);
        o->ended = o->whole = true;
        return false;
    }
    *out = (struct mj__outcome){.ordinal = r.ordinal,
                                .uri = mj_span(o->text.ptr, r.uri),
                                .text = mj_span(o->text.ptr + r.uri, r.text),
                                .hits = o->hits,
                                .count = r.hits};
    return true;
}

int mj__other_end(struct mj__other *o, uint64_t *errors)
{
    int status = 0;
    if (o->pipe)
        fclose(o->pipe);
    o->pipe = NULL;
    if (o->pid > 0)
        while (waitpid(o->pid, &status, 0) < 0 && errno == EINTR)
            ;
    o->pid = 0;
    *errors = o->errors;
    return o->whole && status == 0 ? 0 : MJ_EIO;
}

void mj__other_free(struct mj__other *o)
{
    uint64_t errors;
    if (!o)
        return;
    if (o->pid > 0)
        kill(o->pid, SIGTERM);
    mj__other_end(o, &errors);
    for (size_t i = 0; i < o->outlet_count; i++)
        free(o->outlets[i].name);
    free(o->hits);
    mj_buf_deinit(&o->text);
    free(o);
}
