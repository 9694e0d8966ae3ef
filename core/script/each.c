#include "script/each.h"

#include <stdio.h>

#include "base/err.h"
#include "event/from_json.h"
#include "event/id.h"
#include "script/bind.h"
#include "script/scripts.h"
#include "script/secrets.h"
#include "script/services.h"

#define REASON_MAX  240  /* bytes of why it failed */
#define EXCERPT_MAX 2000 /* … and of where */
#define LATER_US    INT64_C(100000)

/* One call: a parcel or a letter, its events, and the task it is in. */
struct mj_work {
    struct mj_due timer;  /* first member: in memory, when it is tried again */
    struct mj_each *each; /* borrowed */
    struct mj_task *task; /* borrowed; NULL: not now */
    struct mj_parcel *parcel;
    struct mj_letter *letter;
    struct mj_kept **events; /* the letter's, or owned with a reference each */
    size_t n, done;          /* how many there are; the first of them that are done already */
    unsigned attempt;
    int64_t first_us, wait_us; /* in memory: of the first attempt; before the next */
    struct mj_work *prev, *next;
};

static void bump(struct mj_metric *m, size_t n)
{
    if (m)
        mj_metric_set(m, mj_metric_get(m) + (int64_t)n);
}

static struct mj_metric *node_metric(const struct mj_each *e, const char *family,
                                     enum mj_metric_type type, const char *help)
{
    char script[256], name[256];
    return mj_metric(family, type, help, "script=\"%s\",node=\"%s\"",
                     mj_metric_label(mj_str(e->vm->graph->script), script, sizeof script),
                     mj_metric_label(mj_str(e->node->name), name, sizeof name));
}

/* For what waits in memory; readers have metrics of their own. */
static void show(struct mj_each *e)
{
    if (mj__each_reads(e))
        return;
    if (!e->queued) {
        e->queued = node_metric(e, "moonjet_node_queue", MJ_GAUGE,
                                "Events that wait in memory for a node's function.");
        e->full = node_metric(e, "moonjet_node_queue_full_total", MJ_COUNTER,
                              "Events dropped because a node's queue was full.");
    }
    mj_metric_set(e->queued, (int64_t)mj_inbox_count(e->in));
}

static int64_t unix_now(const struct mj_each *e) { return mj_vm_now_us(e->vm); }

/* ---- works ---- */

static void work_later(struct mj_due *due);

static struct mj_work *work_new(struct mj_each *e)
{
    struct mj_work *w = mj_calloc(1, sizeof *w);
    w->timer.fire = work_later;
    w->each = e;
    w->attempt = 1;
    w->next = e->works;
    if (w->next)
        w->next->prev = w;
    e->works = w;
    return w;
}

/* After what it was made for is settled. */
static void work_free(struct mj_work *w)
{
    struct mj_each *e = w->each;
    mj__timer_clear(e->vm->sched, &w->timer);
    *(w->prev ? &w->prev->next : &e->works) = w->next;
    if (w->next)
        w->next->prev = w->prev;
    if (!w->letter) {
        for (size_t i = 0; i < w->n; i++)
            mj_kept_unref(w->events[i]);
        free(w->events);
    }
    free(w);
}

static struct mj_work *work_of_letter(struct mj_each *e, struct mj_letter *l)
{
    struct mj_work *w = work_new(e);
    w->letter = l;
    w->events = l->events;
    w->n = l->n;
    w->first_us = unix_now(e);
    return w;
}

/* Reads the parcel's events. NULL when one of them is no event: then the parcel is settled. */
static struct mj_work *work_of_parcel(struct mj_each *e, struct mj_parcel *p)
{
    struct mj_work *w = work_new(e);
    w->parcel = p;
    w->events = mj_calloc(p->n, sizeof *w->events);
    w->attempt = p->attempt;
    for (; w->n < p->n; w->n++) {
        const struct mj_item *item = &p->items[w->n];
        struct mj_event ev;
        size_t at;
        int err = mj_event_from_json(mj__sched_from_json(e->vm->sched), item->json, &ev, &at);
        if (err) {
            char reason[64];
            snprintf(reason, sizeof reason, "its JSON cannot be read: %s", mj_strerror(err));
            mj_log_limited(&e->vm->error_gate, 10, MJ_LOG_ERROR, "script", "%s %s: event %llu: %s",
                           e->vm->graph->script, e->node->name, (unsigned long long)item->seq,
                           reason);
            struct mj_failure f = {.what = MJ_FAIL_DEAD, .reason = reason};
            mj_parcel_fail(p, unix_now(e), &f);
            work_free(w);
            return NULL;
        }
        ev.seq = item->upstream_seq;
        ev.time_us = item->time_us;
        ev.id = mj_str(item->id);
        w->events[w->n] = mj_kept_new(&ev);
    }
    return w;
}

/* ---- how a call ends ---- */

/* Why a task failed, for people and without secrets. */
struct failure {
    const struct mj_work *work;
    lua_State *co;
    char reason[REASON_MAX], excerpt[EXCERPT_MAX];
};

static void copy_hidden(struct mj_vm *vm, const char *text, char *out, size_t size)
{
    struct mj_span s = mj_secrets_hide(vm->secrets, mj_str(text), &vm->scratch);
    /* Cut between characters. */
    size_t len = s.len < size ? s.len : size - 1;
    while (len && len < s.len && (s.ptr[len] & 0xc0) == 0x80)
        len--;
    memcpy(out, s.ptr, len);
    out[len] = 0;
}

static int take_traceback(lua_State *L)
{
    struct failure *f = lua_touserdata(L, 1);
    luaL_traceback(L, f->co, NULL, 0);
    copy_hidden(mj_vm_of(L), lua_tostring(L, -1), f->excerpt, sizeof f->excerpt);
    return 0;
}

static void explain(struct failure *f, struct mj_vm *vm, const char *reason)
{
    copy_hidden(vm, reason, f->reason, sizeof f->reason);
    size_t cap = vm->cap;
    vm->cap = SIZE_MAX; /* it is small, and the script may be failing for lack of memory */
    if (lua_cpcall(vm->L, take_traceback, f))
        lua_pop(vm->L, 1);
    vm->cap = cap;
}

/* In memory: the wait before the next attempt, or -1 when this was the last. The whole of it, not a
 * random part: one process waits for itself here, and specs can count on it. */
static int64_t next_wait(struct mj_work *w, const struct mj_retry_wish *wish)
{
    const struct mj_retry *r = &w->each->cfg.retry;
    int64_t wait = w->wait_us ? w->wait_us : r->min_us, now = unix_now(w->each);
    if (wish->kind == MJ_AGAIN_UNCOUNTED)
        return wish->after_us > wait ? wish->after_us : wait;
    if (r->tries && w->attempt >= r->tries)
        return -1;
    w->attempt++;
    w->wait_us = wait < r->max_us / 2 ? wait * 2 : r->max_us;
    wait = wish->after_us > wait ? wish->after_us : wait;
    return r->for_us && now + wait - w->first_us > r->for_us ? -1 : wait;
}

static void settle_letter(struct mj_work *w, bool again, const struct mj_retry_wish *wish)
{
    struct mj_each *e = w->each;
    int64_t wait = again ? next_wait(w, wish) : -1;
    if (wait >= 0) {
        e->asleep++;
        mj__timer_set(e->vm->sched, &w->timer, mj__sched_now(e->vm->sched) + wait);
        return;
    }
    mj_inbox_done(e->in, w->letter);
    work_free(w);
}

/* What jet.retry was told is said once, here: it is no error of the script's. */
static void tell(struct mj_each *e, const char *reason, bool again)
{
    char text[REASON_MAX];
    copy_hidden(e->vm, reason, text, sizeof text);
    mj_log_limited(&e->vm->error_gate, 10, again ? MJ_LOG_WARN : MJ_LOG_ERROR, "script",
                   "%s:%u %s: %s; %s", e->node->file, e->node->line, e->node->name, text,
                   again ? "it comes again" : "it is given up");
}

/* Also frees the work. */
static void fail_parcel(struct mj_work *w, struct mj_failure *f)
{
    bool *failed = w->done ? mj_calloc(w->n, sizeof *failed) : NULL;
    for (size_t i = w->done; failed && i < w->n; i++)
        failed[i] = true;
    f->failed = failed;
    mj_parcel_fail(w->parcel, unix_now(w->each), f);
    free(failed);
    work_free(w);
}

static void settle_failed(struct mj_work *w)
{
    struct mj_each *e = w->each;
    struct mj_vm *vm = e->vm;
    int n;
    struct mj_retry_wish wish;
    lua_State *co = mj_task_results(w->task, &n);
    const char *asked = mj__retry_reason(co, &wish);
    bool late = mj__task_timed_out(w->task);
    bool again = e->durable && wish.kind != MJ_AGAIN_NEVER && (asked || late || e->retry_errors);
    if (asked)
        tell(e, asked, again);
    if (!w->parcel) {
        settle_letter(w, again, &wish);
        return;
    }
    struct failure why = {.work = w, .co = co};
    explain(&why, vm, asked ? asked : mj__error_text(co));
    struct mj_failure f = {.what = again ? MJ_FAIL_RETRY : MJ_FAIL_DEAD,
                           .after_us = wish.after_us,
                           .reason = why.reason,
                           .excerpt = mj_str(why.excerpt)};
    if (again && wish.kind == MJ_AGAIN_UNCOUNTED)
        f.what = MJ_FAIL_LATER;
    if (late && vm->paused) /* it had no chance to go on */
        f.what = MJ_FAIL_BACK;
    fail_parcel(w, &f);
}

void mj__each_taken(struct mj_task *t, size_t n)
{
    struct mj_work *w = mj__task_ctx(t);
    if (w)
        w->done += n < w->n - w->done ? n : w->n - w->done;
}

static void pump(struct mj_each *e);

static void on_done(void *ctx, bool ok)
{
    struct mj_work *w = ctx;
    struct mj_each *e = w->each;
    e->running--;
    if (!ok) {
        settle_failed(w);
    } else if (w->parcel) {
        mj_parcel_done(w->parcel, unix_now(e), 0);
        work_free(w);
    } else {
        mj_inbox_done(e->in, w->letter);
        work_free(w);
    }
    pump(e);
    show(e);
}

/* ---- starting ---- */

static int start_protected(lua_State *L)
{
    struct mj_work *w = lua_touserdata(L, 1);
    struct mj_each *e = w->each;
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->node->ref);
    if (e->lists) {
        lua_createtable(L, (int)(w->n - w->done), 0);
        for (size_t i = w->done; i < w->n; i++) {
            mj_push_kept(L, w->events[i]);
            lua_rawseti(L, -2, (int)(i - w->done) + 1);
        }
    } else {
        mj_push_kept(L, w->events[0]);
    }
    w->task = mj_task_start(L, 1, e->node->name, e->timeout, on_done, w);
    if (!w->task)
        luaL_error(L, "too many tasks");
    mj__task_about(w->task, e->node, e->lists ? NULL : &w->events[0]->ev);
    return 0;
}

static void start(struct mj_work *w)
{
    struct mj_each *e = w->each;
    struct mj_vm *vm = e->vm;
    w->task = NULL;
    mj__vm_relieve(vm, mj_guard_now());
    int status = lua_cpcall(vm->L, start_protected, w);
    if (status == LUA_ERRMEM) {
        lua_pop(vm->L, 1);
        mj__vm_collect_all(vm);
        status = lua_cpcall(vm->L, start_protected, w);
    }
    if (!status) {
        e->running++;
        return;
    }
    mj__strike(vm);
    mj__report(vm, vm->L, e->node->name, e->node->file, e->node->line,
               e->lists ? NULL : &w->events[0]->ev);
    lua_pop(vm->L, 1);
    bump(e->node->errors, w->n);
    if (w->parcel) {
        struct mj_failure f = {.what = MJ_FAIL_RETRY,
                               .reason = "the script's memory had no room for a task"};
        fail_parcel(w, &f);
    } else {
        settle_letter(w, e->durable, &(struct mj_retry_wish){.kind = MJ_AGAIN});
    }
}

static bool has_room(const struct mj_each *e)
{
    return !e->vm->paused && e->running < e->workers && mj__tasks_room(e->vm);
}

/* The wait of a work in memory is over. */
static void work_later(struct mj_due *due)
{
    struct mj_work *w = (struct mj_work *)due;
    struct mj_each *e = w->each;
    if (!has_room(e)) {
        mj__timer_set(e->vm->sched, &w->timer, mj__sched_now(e->vm->sched) + LATER_US);
        return;
    }
    e->asleep--;
    start(w);
}

/* On any thread. */
static void on_news(void *ctx) { mj__sched_news(((struct mj_each *)ctx)->vm->sched); }

static void pump_reader(struct mj_each *e)
{
    struct mj_sched *s = e->vm->sched;
    struct mj_reader *reader = e->node->reader;
    if (mj__tasks_ending(e->vm))
        return;
    if (!e->owns) {
        e->cfg.wake = on_news;
        e->cfg.ctx = e;
        mj_reader_own(reader, &e->cfg);
        e->owns = true;
    }
    struct mj_view *view = mj__sched_view(s, reader);
    int64_t again = -1;
    while (has_room(e)) {
        struct mj_parcel *p = mj_reader_take(reader, e, view, unix_now(e), &again);
        if (!p)
            break;
        again = -1;
        struct mj_work *w = work_of_parcel(e, p);
        if (w)
            start(w);
    }
    if (again >= 0)
        mj__timer_set(s, &e->timer, mj__sched_now(s) + again);
    else
        mj__timer_clear(s, &e->timer);
}

/* Starts tasks as long as there is work and a worker. A quarantined script's events wait: their
 * time would run, and each that finds no memory costs collecting all of it. */
static void pump(struct mj_each *e)
{
    struct mj_letter *l;
    if (mj__each_reads(e))
        pump_reader(e);
    else
        while (has_room(e) && (l = mj_inbox_take(e->in)))
            start(work_of_letter(e, l));
}

static void on_due(struct mj_due *due) { pump((struct mj_each *)due); }

/* ---- what comes from the router, where there is no reader ---- */

/* Returns how many of the events were dropped, these or older ones. */
static size_t take_in(struct mj_each *e, struct mj_kept *const *events, size_t n)
{
    size_t dropped = mj__tasks_ending(e->vm) ? n : mj_inbox_put(e->in, events, n);
    pump(e);
    show(e);
    bump(e->full, dropped);
    return dropped;
}

/* Under the name that it would have out of a reader. */
static struct mj_kept *keep(const struct mj_each *e, const struct mj_event *came)
{
    struct mj_event ev = *came;
    uint8_t id[MJ_EVENT_ID];
    char text[MJ_DELIVERY_LEN + 1], reader[MJ_READER_NAME_MAX + 1];
    snprintf(reader, sizeof reader, "%s %s", e->vm->graph->script, e->node->name);
    mj_event_id(&ev, id);
    mj_delivery_id(mj_str(reader), id, text);
    ev.id = mj_str(text);
    return mj_kept_new(&ev);
}

enum mj_verdict mj__each_event(struct mj_node *node, const struct mj_event *ev)
{
    struct mj_each *e = node->ctx;
    struct mj_kept *kept = keep(e, ev);
    size_t dropped = take_in(e, &kept, 1);
    mj_kept_unref(kept);
    return dropped ? MJ_VERDICT_DROP : MJ_VERDICT_PASS;
}

void mj__each_list(struct mj_node *node, struct mj_kept *const *events, size_t n)
{
    bump(node->in, n);
    size_t dropped = take_in(node->ctx, events, n);
    bump(node->dropped, dropped);
    bump(node->passed, dropped < n ? n - dropped : 0);
}

/* ---- the script's life ---- */

void mj__each_init(struct mj_each *e) { e->timer.fire = on_due; }

void mj__eaches_pump(struct mj_vm *vm)
{
    for (struct mj_each *e = vm->eaches; e; e = e->next) {
        pump(e);
        show(e);
    }
}

static void give_back(struct mj_work *w)
{
    struct mj_failure back = {.what = MJ_FAIL_BACK, .reason = "the script ended meanwhile"};
    fail_parcel(w, &back);
}

/* From then on nobody wakes us. */
static void let_go(struct mj_each *e)
{
    if (e->owns)
        mj_reader_disown(e->node->reader, e);
    e->owns = false;
}

void mj__eaches_stop(struct mj_vm *vm)
{
    for (struct mj_each *e = vm->eaches; e; e = e->next) {
        if (!mj__each_reads(e))
            continue;
        mj__timer_clear(vm->sched, &e->timer);
        for (struct mj_work *w = e->works, *next; w; w = next) {
            next = w->next;
            if (!mj__task_drop(w->task))
                continue;
            e->running--;
            give_back(w);
        }
        let_go(e);
    }
}

bool mj__eaches_idle(const struct mj_vm *vm)
{
    for (const struct mj_each *e = vm->eaches; e; e = e->next)
        if (e->running || (!mj__each_reads(e) && mj_inbox_count(e->in)))
            return false;
    return true;
}

void mj__each_free(struct mj_each *e)
{
    size_t left = mj_inbox_count(e->in) + mj_inbox_busy_events(e->in);
    bump(e->node->dropped, left);
    if (e->queued)
        mj_metric_set(e->queued, 0);
    if (left)
        mj_log(MJ_LOG_WARN, "script",
               "%s %s: %zu events were not worked on in time and are dropped", e->vm->graph->script,
               e->node->name, left);
    for (struct mj_work *w = e->works, *next; w; w = next) {
        next = w->next;
        if (w->parcel)
            give_back(w);
        else
            work_free(w);
    }
    if (e->vm->sched)
        mj__timer_clear(e->vm->sched, &e->timer);
    let_go(e);
    mj_inbox_free(e->in);
    free(e);
}
