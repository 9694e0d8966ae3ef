/* The registry: which readers there are, what is noted for them, who owns them, and what control
 * asks and orders. */
#include <stdio.h>
#include <sys/random.h>

#include "journal/reader_internal.h"

#define DEAD_MAX    10000
#define ATTEMPTS    16384
#define WINDOW      4096
#define WINDOW_MAX  ((size_t)1 << 20)
#define BEHIND_US   INT64_C(10000000)
#define PATIENCE_US INT64_C(5000000)    /* for the disk */
#define COUNT_MOST  1000000             /* of what waits; more need not be told apart */
#define LOOK_ASKED  (UINT64_C(8) << 20) /* entries looked at to count, when somebody asks */

/* In the order of moonjet_reader_state. */
static const char *const states[] = {"live", "behind", "paused", "disabled", "gone"};

/* ---- making ---- */

static struct mj_metric *metric(const struct mj_reader *r, const char *family,
                                enum mj_metric_type type, const char *help)
{
    char label[2 * MJ_READER_NAME_MAX + 2];
    return mj_metric(family, type, help, "reader=\"%s\"",
                     mj_metric_label(mj_str(r->name), label, sizeof label));
}

static void make_metrics(struct mj_reader *r)
{
    r->m.waiting = metric(r, "moonjet_reader_waiting_events", MJ_GAUGE,
                          "Events that wait for a durable reader, as of the last second.");
    r->m.lag = metric(r, "moonjet_reader_lag_seconds", MJ_GAUGE_REAL,
                      "Age of the oldest event that a durable reader is not done with.");
    r->m.air = metric(r, "moonjet_reader_in_flight_events", MJ_GAUGE,
                      "Events of a durable reader that are being delivered.");
    r->m.letters = metric(r, "moonjet_reader_dead_letters", MJ_GAUGE,
                          "Dead letters of a durable reader that are kept.");
    r->m.state = metric(r, "moonjet_reader_state", MJ_GAUGE,
                        "A durable reader: 0 live, 1 behind, 2 paused, 3 disabled, 4 gone.");
    r->m.delivered = metric(r, "moonjet_reader_delivered_total", MJ_COUNTER,
                            "Events that a durable reader has delivered.");
    r->m.failed = metric(r, "moonjet_reader_failed_total", MJ_COUNTER,
                         "Attempts of a durable reader that failed.");
    r->m.retried = metric(r, "moonjet_reader_retried_total", MJ_COUNTER,
                          "Events that a durable reader will try again.");
    r->m.dead = metric(r, "moonjet_reader_dead_total", MJ_COUNTER,
                       "Events of a durable reader that became dead letters.");
    r->m.overtaken = metric(r, "moonjet_reader_overtaken_total", MJ_COUNTER,
                            "Events of a durable reader that retention dropped before they were "
                            "delivered.");
    r->m.dropped = metric(r, "moonjet_reader_dead_letters_dropped_total", MJ_COUNTER,
                          "Dead letters of a durable reader that newer ones had no room for.");
}

/* Under the registry's lock. */
struct mj_reader *mj__reader_new(struct mj_readers *rs, const char *script, const char *node,
                                 enum mj_reader_kind kind, struct mj_buf *error)
{
    size_t n = atomic_load_explicit(&rs->count, memory_order_relaxed);
    MJ_AUTO_BUF name = {0};
    mj_buf_printf(&name, "%s %s", script, node);
    if (name.len > MJ_READER_NAME_MAX || n >= MJ_READERS_MAX) {
        mj_buf_printf(error,
                      n >= MJ_READERS_MAX
                          ? "%s: '%s' would be one durable reader too many; remove some with "
                            "`moonjet ctl deliveries forget`"
                          : "%s: '%s': the names of script and node are too long together",
                      script, node);
        return NULL;
    }
    struct mj_reader *r = mj_calloc(1, sizeof *r);
    r->rs = rs;
    r->script = mj_strdup(script);
    r->node = mj_strdup(node);
    r->name = mj_strdup(mj_buf_cstr(&name));
    mj__note_front(&r->front, r->name);
    r->kind = kind;
    pthread_mutex_init(&r->mail, NULL);
    pthread_mutex_init(&r->lock, NULL);
    if (getrandom(&r->random, sizeof r->random, 0) != sizeof r->random || !r->random)
        r->random = 1;
    name.len = 0;
    mj_buf_printf(&name, "~%s", r->name);
    r->collection = mj_collection_id(mj_buf_span(&name));
    r->number = MJ_COLLECTION_OTHER;
    make_metrics(r);
    rs->all[n] = r;
    atomic_store_explicit(&rs->count, n + 1, memory_order_release);
    return r;
}

static void reader_free(struct mj_reader *r)
{
    mj__window_deinit(&r->window);
    pthread_mutex_destroy(&r->mail);
    pthread_mutex_destroy(&r->lock);
    free(r->letters);
    free(r->revived);
    free(r->script);
    free(r->node);
    free(r->name);
    mj_buf_deinit(&r->front);
    free(r);
}

struct mj_readers *mj_readers_new(const struct mj_readers_cfg *cfg)
{
    struct mj_readers *rs = mj_calloc(1, sizeof *rs);
    rs->journal = cfg->journal;
    rs->disk = cfg->disk;
    rs->dead_max = cfg->dead_max ? cfg->dead_max : DEAD_MAX;
    rs->all = mj_calloc(MJ_READERS_MAX, sizeof(struct mj_reader *));
    rs->attempts = mj__attempts_new(cfg->attempts ? cfg->attempts : ATTEMPTS);
    rs->next_dead = 1;
    pthread_mutex_init(&rs->lock, NULL);
    pthread_mutex_init(&rs->dead_lock, NULL);
    mj_view_init(&rs->view, rs->journal);
    mj__readers_load(rs);
    return rs;
}

void mj_readers_free(struct mj_readers *rs)
{
    if (!rs)
        return;
    mj__readers_save(rs, true);
    for (size_t i = 0; i < rs->count; i++)
        reader_free(rs->all[i]);
    for (size_t i = 0; i < rs->recent_count; i++)
        mj_buf_deinit(&rs->recent[i].value);
    mj_view_deinit(&rs->view);
    mj__attempts_free(rs->attempts);
    mj_buf_deinit(&rs->text);
    pthread_mutex_destroy(&rs->lock);
    pthread_mutex_destroy(&rs->dead_lock);
    free(rs->recent);
    free(rs->all);
    free(rs);
}

static struct mj_reader *find(struct mj_readers *rs, const char *script, const char *node)
{
    size_t n = atomic_load_explicit(&rs->count, memory_order_acquire);
    for (size_t i = 0; i < n; i++)
        if (strcmp(rs->all[i]->node, node) == 0 && strcmp(rs->all[i]->script, script) == 0)
            return rs->all[i];
    return NULL;
}

/* On the writer's thread, which alone may give out numbers. */
int mj_reader_get(struct mj_readers *rs, const char *script, const char *node,
                  enum mj_reader_kind kind, struct mj_reader **out, struct mj_buf *error)
{
    pthread_mutex_lock(&rs->lock);
    struct mj_reader *r = find(rs, script, node);
    if (!r)
        r = mj__reader_new(rs, script, node, kind, error);
    pthread_mutex_unlock(&rs->lock);
    if (!r)
        return MJ_ELIMIT;
    uint16_t number = mj__journal_collection(rs->journal, r->collection);
    pthread_mutex_lock(&r->lock);
    r->number = number;
    r->kind = kind;
    if (!r->known) {
        r->known = r->dirty = true;
        r->scanned = r->news = rs->journal->next_seq;
        r->uncounted_at = r->uncounted_end = r->scanned;
        mj__reader_save(r);
    }
    pthread_mutex_unlock(&r->lock);
    *out = r;
    return 0;
}

const char *mj_reader_name(const struct mj_reader *r) { return r->name; }

struct mj_journal *mj_reader_journal(const struct mj_reader *r) { return r->rs->journal; }

/* ---- the writer ---- */

int mj_reader_note(struct mj_reader *r, const struct mj_append *event, unsigned back,
                   int64_t upstream_seq)
{
    struct mj_readers *rs = r->rs;
    struct mj_append note = *event;
    uint64_t seq = rs->journal->next_seq;
    note.time_us = mj_journal_next_time(rs->journal);
    note.streams = 0;
    note.collection = r->collection;
    note.kind = MJ_ENTRY_NOTE;
    note.op = MJ_OP_NONE;
    rs->text.len = 0;
    mj__note_put(&rs->text, mj_buf_span(&r->front), back, upstream_seq);
    /* Staged first: from here on nobody moves an idle position over this seq. */
    pthread_mutex_lock(&r->mail);
    bool first = !r->staged_first;
    if (first)
        r->staged_first = seq;
    pthread_mutex_unlock(&r->mail);
    int err = mj_journal_append(rs->journal, &note, mj_buf_span(&rs->text));
    pthread_mutex_lock(&r->mail);
    if (!err) {
        r->staged_last = rs->journal->next_seq;
        r->staged_count++;
    } else if (first) {
        r->staged_first = 0;
    }
    pthread_mutex_unlock(&r->mail);
    if (!err && r->made > rs->await)
        rs->await = r->made;
    if (!err && !r->touched) {
        r->touched = true;
        r->next_touched = rs->touched;
        rs->touched = r;
    }
    return err;
}

void mj_readers_publish(struct mj_readers *rs)
{
    if (MJ_LIKELY(!rs->await))
        return;
    if (mj_disk_written(rs->disk) < rs->await && !mj_disk_flush(rs->disk, PATIENCE_US))
        mj_log(MJ_LOG_WARN, "reader",
               "the disk does not take the position of a new reader; should this process die now, "
               "the reader will begin with what comes then");
    for (struct mj_reader *r = rs->touched; r; r = r->next_touched)
        r->made = 0;
    rs->await = 0;
}

void mj_readers_published(struct mj_readers *rs)
{
    struct mj_reader *r;
    while ((r = rs->touched)) {
        rs->touched = r->next_touched;
        r->touched = false;
        pthread_mutex_lock(&r->mail);
        if (!r->news_first)
            r->news_first = r->staged_first;
        r->news_last = r->staged_last;
        r->news_count += r->staged_count;
        r->staged_first = r->staged_count = 0;
        atomic_store_explicit(&r->quiet_until, 0, memory_order_release);
        if (r->wake)
            r->wake(r->wake_ctx);
        pthread_mutex_unlock(&r->mail);
    }
}

/* ---- owners ---- */

void mj__reader_stir(struct mj_reader *r, bool wake)
{
    pthread_mutex_lock(&r->mail);
    atomic_store_explicit(&r->quiet_until, 0, memory_order_release);
    if (wake && r->wake)
        r->wake(r->wake_ctx);
    pthread_mutex_unlock(&r->mail);
}

static void set_wake(struct mj_reader *r, void (*wake)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&r->mail);
    r->wake = wake;
    r->wake_ctx = ctx;
    pthread_mutex_unlock(&r->mail);
}

void mj_reader_own(struct mj_reader *r, const struct mj_owner_cfg *cfg)
{
    pthread_mutex_lock(&r->lock);
    struct mj_owner_cfg c = *cfg;
    c.max = c.max ? c.max : 1;
    c.max_bytes = c.max_bytes ? c.max_bytes : SIZE_MAX;
    c.workers = !c.workers || c.order == MJ_ORDER_TOTAL ? 1 : c.workers;
    c.window = c.window ? c.window : WINDOW;
    c.window = c.window < c.max ? c.max : c.window;
    c.window = c.window > WINDOW_MAX ? WINDOW_MAX : c.window;
    r->cfg = c;
    r->owned = true;
    r->owner++;
    r->air = 0;
    if (!r->known) { /* it was forgotten between two owners, and is noted for all the same */
        r->known = r->dirty = true;
        mj__count_again(r, r->scanned);
    }
    set_wake(r, c.wake, c.ctx);
    pthread_mutex_unlock(&r->lock);
    mj__reader_stir(r, true);
}

void mj_reader_disown(struct mj_reader *r, const void *ctx)
{
    pthread_mutex_lock(&r->lock);
    if (r->owned && r->cfg.ctx == ctx) {
        r->owned = false;
        r->owner++;
        r->air = 0;
        set_wake(r, NULL, NULL);
    }
    pthread_mutex_unlock(&r->lock);
}

void mj__reader_lost(struct mj_reader *r, uint64_t events)
{
    static struct mj_log_gate gate;
    if (!events)
        return;
    r->overtaken += events;
    mj_metric_add(r->m.overtaken, (int64_t)events);
    mj_log_limited(&gate, 5, MJ_LOG_ERROR, "reader",
                   "%s was overtaken: %llu events are gone from the journal before they were "
                   "delivered. Keep more (--retain, --retain-bytes)",
                   r->name, (unsigned long long)events);
}

/* ---- control ---- */

uint64_t mj__reader_position(const struct mj_reader *r)
{
    const struct mj__window *w = &r->window;
    return w->head < w->n ? w->slots[w->head].note : r->scanned;
}

static void set_state(struct mj_reader *r, bool paused, bool disabled, const char *reason)
{
    pthread_mutex_lock(&r->lock);
    r->paused = paused;
    r->disabled = disabled;
    r->dirty = true;
    if (reason)
        snprintf(r->reason, sizeof r->reason, "%s", reason);
    pthread_mutex_unlock(&r->lock);
    mj__reader_stir(r, true);
}

void mj_reader_disable(struct mj_reader *r, const char *reason)
{
    set_state(r, false, true, reason);
    mj_log(MJ_LOG_WARN, "reader",
           "%s is disabled: %s. What comes for it waits in the journal; `moonjet ctl deliveries "
           "resume` starts it again",
           r->name, reason);
}

void mj_reader_pause(struct mj_reader *r) { set_state(r, true, false, NULL); }

void mj_reader_resume(struct mj_reader *r) { set_state(r, false, false, NULL); }

bool mj_reader_done(struct mj_reader *r, uint64_t note)
{
    pthread_mutex_lock(&r->lock);
    bool done = note < r->scanned && !mj__window_find(&r->window, note);
    pthread_mutex_unlock(&r->lock);
    return done;
}

void mj_reader_rewind(struct mj_reader *r, int64_t time_us)
{
    struct mj_readers *rs = r->rs;
    pthread_mutex_lock(&rs->lock);
    pthread_mutex_lock(&r->lock);
    mj_view_refresh(&rs->view);
    r->epoch++;
    r->air = r->air_events = 0;
    mj__window_clear(&r->window);
    r->scanned = mj_view_find(&rs->view, time_us);
    if (r->news < rs->view.end)
        r->news = rs->view.end;
    pthread_mutex_lock(&r->mail);
    if (r->news_first && r->news < r->news_last)
        r->news = r->news_last;
    r->news_first = r->news_count = 0;
    pthread_mutex_unlock(&r->mail);
    r->claimed = 0;
    mj__count_again(r, r->scanned);
    r->dirty = true;
    pthread_mutex_unlock(&r->lock);
    pthread_mutex_unlock(&rs->lock);
    mj__reader_stir(r, true);
}

/* Under the registry's lock and the reader's. */
static void look(struct mj_reader *r, struct mj_reader_state *out, uint64_t *budget)
{
    struct mj_readers *rs = r->rs;
    mj__count_on(r, &rs->view, budget);
    pthread_mutex_lock(&r->mail);
    uint64_t coming = r->news_first ? r->news_count : 0;
    pthread_mutex_unlock(&r->mail);
    uint64_t waiting = r->window.live + r->unread + r->claimed + coming;
    *out = (struct mj_reader_state){.script = r->script,
                                    .node = r->node,
                                    .kind = r->kind,
                                    .position = mj__reader_position(r),
                                    .waiting = waiting < COUNT_MOST ? (size_t)waiting : COUNT_MOST,
                                    .in_the_air = r->air_events,
                                    .delivered = r->delivered,
                                    .failed = r->failed,
                                    .retried = r->retried,
                                    .dead = r->dead,
                                    .overtaken = r->overtaken,
                                    .letters = r->letter_count,
                                    .last_ok_us = r->last_ok_us,
                                    .last_fail_us = r->last_fail_us};
    memcpy(out->reason, r->reason, sizeof out->reason);
    if (waiting)
        out->at_us = mj_view_time(&rs->view,
                                  out->position < rs->view.floor ? rs->view.floor : out->position);
    bool behind = out->at_us && mj_now_us() - out->at_us > BEHIND_US + r->cfg.every_us;
    out->state = r->disabled ? "disabled"
                 : r->paused ? "paused"
                 : !r->owned ? "gone"
                 : behind    ? "behind"
                             : "live";
}

static void state_of(struct mj_reader *r, struct mj_reader_state *out, uint64_t *budget)
{
    pthread_mutex_lock(&r->rs->lock);
    mj_view_refresh(&r->rs->view);
    pthread_mutex_lock(&r->lock);
    look(r, out, budget);
    pthread_mutex_unlock(&r->lock);
    pthread_mutex_unlock(&r->rs->lock);
}

void mj_reader_state(struct mj_reader *r, struct mj_reader_state *out)
{
    uint64_t budget = LOOK_ASKED;
    state_of(r, out, &budget);
}

static void each(struct mj_readers *rs, uint64_t budget,
                 bool (*fn)(void *ctx, const struct mj_reader_state *s), void *ctx)
{
    size_t n = atomic_load_explicit(&rs->count, memory_order_acquire);
    for (size_t i = 0; i < n; i++) {
        struct mj_reader_state s;
        pthread_mutex_lock(&rs->all[i]->lock);
        bool known = rs->all[i]->known;
        pthread_mutex_unlock(&rs->all[i]->lock);
        if (!known)
            continue;
        state_of(rs->all[i], &s, &budget);
        if (!fn(ctx, &s))
            return;
    }
}

void mj_readers_each(struct mj_readers *rs, bool (*fn)(void *ctx, const struct mj_reader_state *s),
                     void *ctx)
{
    each(rs, LOOK_ASKED, fn, ctx);
}

void mj_readers_glance(struct mj_readers *rs,
                       bool (*fn)(void *ctx, const struct mj_reader_state *s), void *ctx)
{
    each(rs, 0, fn, ctx);
}

struct mj_reader *mj_readers_find(struct mj_readers *rs, const char *name)
{
    size_t n = atomic_load_explicit(&rs->count, memory_order_acquire);
    for (size_t i = 0; i < n; i++) {
        struct mj_reader *r = rs->all[i];
        if (strcmp(r->name, name) != 0)
            continue;
        pthread_mutex_lock(&r->lock);
        bool known = r->known;
        pthread_mutex_unlock(&r->lock);
        if (known)
            return r;
    }
    return NULL;
}

void mj__reader_show(struct mj_reader *r, int64_t now_us, uint64_t *budget)
{
    struct mj_reader_state s;
    look(r, &s, budget);
    mj_metric_set(r->m.waiting, (int64_t)s.waiting);
    mj_metric_set_real(r->m.lag,
                       s.at_us && now_us > s.at_us ? (double)(now_us - s.at_us) / 1e6 : 0);
    mj_metric_set(r->m.air, (int64_t)s.in_the_air);
    mj_metric_set(r->m.letters, (int64_t)s.letters);
    for (int i = 0; i < (int)MJ_COUNT(states); i++)
        if (strcmp(s.state, states[i]) == 0)
            mj_metric_set(r->m.state, i);
}
