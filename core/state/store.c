#include "state/store.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "state/set_internal.h"
#include "state/store_internal.h"

#define BYTES_USUAL ((size_t)1 << 30)
#define STEP_CELLS  64     /* between two looks at the clock */
#define STEP_US     100000 /* when nothing is due */

static int64_t clock_us(void *ctx)
{
    (void)ctx;
    return mj_now_us();
}

int mj_store_open(const struct mj_store_cfg *cfg, struct mj_store **out, struct mj_buf *error)
{
    struct mj_store *s = mj_calloc(1, sizeof *s);
    if (cfg->data && *cfg->data) {
        MJ_AUTO_BUF dir = {0};
        mj_buf_printf(&dir, "%s/state", cfg->data);
        int err = mj_disk_open(mj_buf_cstr(&dir), &s->disk, error);
        if (err) {
            free(s);
            return err;
        }
    }
    pthread_mutex_init(&s->lock, NULL);
    s->now_us = cfg->now_us ? cfg->now_us : clock_us;
    s->ctx = cfg->ctx;
    s->script_bytes = cfg->script_bytes ? cfg->script_bytes : BYTES_USUAL;
    s->sets = mj_sets_new(s->now_us, s->ctx, cfg->sets_bytes ? cfg->sets_bytes : BYTES_USUAL);
    mj_sets_set_disk(s->sets, s->disk);
    MJ_AUTO_BUF labels = {0};
    mj_buf_printf(&labels, "%s/labels", cfg->data ? cfg->data : "");
    s->labels = mj_labels_new(s->disk ? mj_buf_cstr(&labels) : NULL);
    *out = s;
    return 0;
}

void mj__warn_no_disk(const char *name)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&warned))
        mj_log(MJ_LOG_WARN, "state",
               "'%s' is to persist, but without --data nothing is kept over a restart", name);
}

static void free_state(struct mj_state *s)
{
    if (s->type == MJ_STATE_TOP)
        mj_top_deinit(&s->top);
    else
        mj_cells_deinit(&s->cells);
    free(s->name);
    free(s);
}

static void free_shelf(struct mj_shelf *shelf)
{
    for (size_t i = 0; i < shelf->count; i++) {
        struct mj_state *s = shelf->states[i];
        if (s->type != MJ_STATE_TOP && s->cells.ledger)
            mj_ledger_flush(s->cells.ledger, &s->cells);
    }
    for (size_t i = 0; i < shelf->count; i++)
        mj_state_unref(shelf->states[i]);
    while (shelf->dying) {
        struct mj_state *next = shelf->dying->next;
        free_state(shelf->dying);
        shelf->dying = next;
    }
    free(shelf->states);
    free(shelf->script);
    free(shelf);
}

static void flush_set(void *ctx, struct mj_set *set)
{
    (void)ctx;
    mj__set_flush(set);
}

void mj_store_close(struct mj_store *s)
{
    if (!s)
        return;
    while (s->shelves) {
        struct mj_shelf *next = s->shelves->next;
        free_shelf(s->shelves);
        s->shelves = next;
    }
    if (s->disk)
        mj_sets_each(s->sets, flush_set, NULL);
    mj_sets_free(s->sets);
    mj_disk_close(s->disk);
    mj_labels_free(s->labels);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

struct mj_sets *mj_store_sets(struct mj_store *s) { return s->sets; }
struct mj_labels *mj_store_labels(struct mj_store *s) { return s->labels; }
struct mj_disk *mj_store_disk(struct mj_store *s) { return s->disk; }
int64_t mj_store_now(const struct mj_store *s) { return s->now_us(s->ctx); }
struct mj_store *mj_shelf_store(const struct mj_shelf *shelf) { return shelf->store; }

/* ---- shelves ---- */

struct mj_shelf *mj_store_shelf(struct mj_store *s, const char *script)
{
    pthread_mutex_lock(&s->lock);
    struct mj_shelf *shelf = s->shelves;
    while (shelf && strcmp(shelf->script, script))
        shelf = shelf->next;
    if (!shelf) {
        shelf = mj_calloc(1, sizeof *shelf);
        shelf->store = s;
        shelf->script = mj_strdup(script);
        shelf->budget.max = s->script_bytes;
        shelf->now = mj_store_now(s);
        if (s->disk)
            mj__load_shelf(shelf);
        shelf->next = s->shelves;
        s->shelves = shelf;
    }
    pthread_mutex_unlock(&s->lock);
    return shelf;
}

struct mj_state *mj_state_ref(struct mj_state *s)
{
    s->refs++;
    return s;
}

void mj_state_unref(struct mj_state *s)
{
    if (!s || --s->refs)
        return;
    /* A million entries are not given back in one go. */
    if (s->type == MJ_STATE_MAP)
        mj_cells_clear(&s->cells);
    else if (s->type == MJ_STATE_ZSET)
        mj_zset_clear(&s->zset);
    else
        mj_top_clear(&s->top);
    s->next = s->shelf->dying;
    s->shelf->dying = s;
}

/* True when there is more. */
static bool step_state(struct mj_state *s, int64_t now, size_t n)
{
    if (s->type == MJ_STATE_TOP)
        return mj_top_step(&s->top, now, n);
    bool more =
        s->type == MJ_STATE_MAP ? mj_cells_step(&s->cells, now, n) : mj_zset_step(&s->zset, now, n);
    return (s->cells.ledger && mj_ledger_step(s->cells.ledger, &s->cells, n)) || more;
}

static void tell_metrics(struct mj_state *s)
{
    bool top = s->type == MJ_STATE_TOP;
    if (!s->entries)
        return;
    mj_metric_set(s->entries, (int64_t)(top ? mj_top_count(&s->top) : mj_cells_count(&s->cells)));
    mj_metric_set(s->bytes, (int64_t)(top ? s->top.bytes : s->cells.bytes));
    if (!top) {
        mj_metric_add(s->evicted, (int64_t)(s->cells.evicted - s->evicted_told));
        s->evicted_told = s->cells.evicted;
    }
}

/* A state that nobody has any more goes bit by bit; true when there is more of it. */
static bool bury(struct mj_shelf *shelf, int64_t now)
{
    struct mj_state *s = shelf->dying;
    if (s && !step_state(s, now, STEP_CELLS)) {
        shelf->dying = s->next;
        free_state(s);
    }
    return shelf->dying != NULL;
}

int64_t mj_shelf_now(const struct mj_shelf *shelf, const struct mj_state *s)
{
    bool exact =
        s->type == MJ_STATE_TOP
            ? s->top.window_us != 0
            : atomic_load_explicit(&((struct mj_state *)s)->cells.ttl_us, memory_order_relaxed) ||
                  s->cells.ends.count;
    return exact ? mj_store_now(shelf->store) : shelf->now;
}

int64_t mj_shelf_step(struct mj_shelf *shelf, int64_t budget_us)
{
    int64_t start = mj_mono_us(), now = mj_store_now(shelf->store);
    bool more;
    shelf->now = now;
    do {
        more = bury(shelf, now);
        for (size_t i = 0; i < shelf->count; i++)
            more = step_state(shelf->states[i], now, STEP_CELLS) || more;
    } while (more && mj_mono_us() - start < budget_us);
    for (size_t i = 0; i < shelf->count; i++)
        tell_metrics(shelf->states[i]);
    return more ? 0 : shelf->count || shelf->dying ? STEP_US : -1;
}

int64_t mj_store_step(struct mj_store *s, int64_t budget_us)
{
    int64_t start = mj_mono_us();
    bool more;
    do
        more = mj_sets_step(s->sets, STEP_CELLS);
    while (more && mj_mono_us() - start < budget_us);
    return more ? 0 : mj_sets_count(s->sets) ? STEP_US : -1;
}

/* ---- plans ---- */

struct planned {
    struct mj_state *state; /* ref */
    struct mj_state_options options;
    size_t k;
    int64_t window_us;
};

struct planned_set {
    struct mj_set *set; /* ref */
    struct mj_state_options options;
    struct mj_members members; /* owned */
    bool gives;
};

struct mj_plan {
    struct mj_shelf *shelf; /* borrowed */
    struct planned *states; /* owned */
    size_t count;
    struct planned_set *sets; /* owned */
    size_t set_count;
    struct mj_members gathered;
};

struct mj_plan *mj_plan_new(struct mj_shelf *shelf)
{
    struct mj_plan *p = mj_calloc(1, sizeof *p);
    p->shelf = shelf;
    return p;
}

void mj_plan_free(struct mj_plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->count; i++)
        mj_state_unref(p->states[i].state);
    for (size_t i = 0; i < p->set_count; i++) {
        mj_set_unref(p->sets[i].set);
        mj_members_deinit(&p->sets[i].members);
    }
    mj_members_deinit(&p->gathered);
    free(p->states);
    free(p->sets);
    free(p);
}

static const char *const type_names[] = {"map", "zset", "top"};

static bool same_options(const struct mj_state_options *a, const struct mj_state_options *b)
{
    return a->says_max == b->says_max && a->says_ttl == b->says_ttl &&
           a->says_persist == b->says_persist && a->max == b->max && a->ttl_us == b->ttl_us &&
           a->persist == b->persist;
}

static struct mj_state *on_shelf(const struct mj_shelf *shelf, const char *name)
{
    for (size_t i = 0; i < shelf->count; i++)
        if (!strcmp(shelf->states[i]->name, name))
            return shelf->states[i];
    return NULL;
}

struct mj_state *mj__state_new(struct mj_shelf *shelf, enum mj_state_type type, const char *name)
{
    struct mj_state *s = calloc(1, sizeof *s);
    int err = s ? 0 : MJ_ENOMEM;
    if (!err && type == MJ_STATE_MAP)
        err = mj_map_init(&s->map, &shelf->budget);
    else if (!err && type == MJ_STATE_ZSET)
        err = mj_zset_init(&s->zset, &shelf->budget);
    else if (!err)
        mj_top_init(&s->top, 1, 0, &shelf->budget);
    if (err) {
        free(s);
        return NULL;
    }
    s->type = type;
    s->name = mj_strdup(name);
    s->refs = 1;
    s->shelf = shelf;
    return s;
}

static int plan(struct mj_plan *p, const struct planned *want, enum mj_state_type type,
                const char *name, struct mj_state **out, struct mj_buf *error)
{
    for (size_t i = 0; i < p->count; i++) {
        const struct planned *had = &p->states[i];
        if (strcmp(had->state->name, name))
            continue;
        if (had->state->type != type) {
            mj_buf_printf(error, "'%s' is declared already, as a %s", name,
                          type_names[had->state->type]);
            return MJ_EINVAL;
        }
        if (!same_options(&had->options, &want->options) || had->k != want->k ||
            had->window_us != want->window_us) {
            mj_buf_printf(error, "'%s' is declared already, with other options", name);
            return MJ_EINVAL;
        }
        *out = had->state;
        return 0;
    }
    if (p->count == MJ_SHELF_STATES_MAX) {
        mj_buf_printf(error, "too many maps, zsets and tops: a script has at most %d",
                      MJ_SHELF_STATES_MAX);
        return MJ_ELIMIT;
    }
    struct mj_state *s = on_shelf(p->shelf, name);
    s = s && s->type == type ? mj_state_ref(s) : mj__state_new(p->shelf, type, name);
    if (!s) {
        mj_buf_puts(error, mj_strerror(MJ_ENOMEM));
        return MJ_ENOMEM;
    }
    p->states = mj_realloc(p->states, (p->count + 1) * sizeof *p->states);
    p->states[p->count] = *want;
    p->states[p->count++].state = s;
    *out = s;
    return 0;
}

int mj_plan_state(struct mj_plan *p, enum mj_state_type type, const char *name,
                  const struct mj_state_options *o, struct mj_state **out, struct mj_buf *error)
{
    struct planned want = {.options = *o};
    return plan(p, &want, type, name, out, error);
}

int mj_plan_top(struct mj_plan *p, const char *name, size_t k, int64_t window_us,
                struct mj_state **out, struct mj_buf *error)
{
    struct planned want = {.k = k, .window_us = window_us};
    return plan(p, &want, MJ_STATE_TOP, name, out, error);
}

int mj_plan_set(struct mj_plan *p, const char *name, const struct mj_state_options *o,
                struct mj_members *members, struct mj_set **out, struct mj_buf *error)
{
    struct mj_set *set = mj_sets_make(p->shelf->store->sets, name);
    if (!set) {
        mj_buf_printf(error, "no room for one more set: there are at most %d", MJ_SETS_MAX);
        return MJ_ELIMIT;
    }
    size_t i = 0;
    while (i < p->set_count && p->sets[i].set != set)
        i++;
    /* A script may name a set as often as it likes, but say what it is only once. */
    bool says = o->says_max || o->says_ttl || o->says_persist || members;
    if (i < p->set_count) {
        struct planned_set *had = &p->sets[i];
        bool said = had->gives || had->options.says_max || had->options.says_ttl ||
                    had->options.says_persist;
        if (says && said) {
            mj_buf_printf(error, "set '%s' is declared already; after that, name it without more",
                          name);
            mj_set_unref(set);
            return MJ_EINVAL;
        }
    } else {
        p->sets = mj_realloc(p->sets, (p->set_count + 1) * sizeof *p->sets);
        p->sets[p->set_count++] = (struct planned_set){.set = mj_set_ref(set)};
    }
    if (says)
        p->sets[i].options = *o;
    if (members) {
        p->sets[i].members = *members;
        p->sets[i].gives = true;
        *members = (struct mj_members){0};
    }
    *out = set;
    return 0;
}

struct mj_members *mj_plan_members(struct mj_plan *p)
{
    mj_members_deinit(&p->gathered);
    return &p->gathered;
}

static void find_metrics(struct mj_state *s)
{
    char script[256];
    if (s->entries)
        return;
    mj_metric_label(mj_str(s->shelf->script), script, sizeof script);
    mj__state_metrics(script, s->name, &s->entries, &s->bytes, &s->evicted);
}

void mj__state_metrics(const char *script, const char *name, struct mj_metric **entries,
                       struct mj_metric **bytes, struct mj_metric **evicted)
{
    *entries = mj_metric("moonjet_state_entries", MJ_GAUGE, "Entries that scripts remember.",
                         "script=\"%s\",name=\"%s\"", script, name);
    *bytes = mj_metric("moonjet_state_bytes", MJ_GAUGE, "Memory of what scripts remember.",
                       "script=\"%s\",name=\"%s\"", script, name);
    *evicted =
        mj_metric("moonjet_state_evicted_total", MJ_COUNTER, "Entries that made room for others.",
                  "script=\"%s\",name=\"%s\"", script, name);
}

/* Begins and ends being kept on disk. */
static void update_ledger(struct mj_state *s, bool persist)
{
    struct mj_disk *disk = s->shelf->store->disk;
    if (persist && !disk)
        mj__warn_no_disk(s->name);
    if (persist && disk && !s->cells.ledger && !s->cells.unread) {
        s->cells.ledger = mj_ledger_new(disk, s->shelf->script, s->name,
                                        s->type == MJ_STATE_MAP ? MJ_DISK_MAP : MJ_DISK_ZSET, 0);
    } else if (!persist && s->cells.ledger) {
        mj_ledger_end(s->cells.ledger);
        s->cells.ledger = NULL;
    }
}

static void configure(const struct planned *plan)
{
    struct mj_state *s = plan->state;
    if (s->type == MJ_STATE_TOP) {
        mj_top_configure(&s->top, plan->k, plan->window_us);
        return;
    }
    s->cells.max = plan->options.says_max ? plan->options.max : MJ_STATE_MAX_USUAL;
    atomic_store_explicit(&s->cells.ttl_us, plan->options.says_ttl ? plan->options.ttl_us : 0,
                          memory_order_relaxed);
    update_ledger(s, plan->options.persist);
}

void mj__shelve(struct mj_shelf *shelf, struct mj_state *s)
{
    shelf->states = mj_realloc(shelf->states, (shelf->count + 1) * sizeof(struct mj_state *));
    shelf->states[shelf->count++] = mj_state_ref(s);
}

static void unshelve(struct mj_shelf *shelf, size_t i)
{
    struct mj_state *s = shelf->states[i];
    if (s->type != MJ_STATE_TOP)
        update_ledger(s, false);
    shelf->states[i] = shelf->states[--shelf->count];
    if (s->entries) {
        mj_metric_set(s->entries, 0);
        mj_metric_set(s->bytes, 0);
        s->entries = NULL;
    }
    mj_state_unref(s);
}

static bool is_planned(const struct mj_plan *p, const struct mj_state *s)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->states[i].state == s)
            return true;
    return false;
}

/* What was declared before and is not any more, or is something else now. */
static void forget(const struct mj_plan *p)
{
    struct mj_shelf *shelf = p->shelf;
    for (size_t i = shelf->count; i-- > 0;) {
        struct mj_state *s = shelf->states[i];
        const struct mj_state *now = NULL;
        if (is_planned(p, s))
            continue;
        for (size_t k = 0; k < p->count; k++)
            if (!strcmp(p->states[k].state->name, s->name))
                now = p->states[k].state;
        if (!now && s->type != MJ_STATE_TOP && s->cells.ledger)
            continue; /* whoever persisted something gets it back when it is declared again */
        if (now)
            mj_log(MJ_LOG_WARN, "state", "%s: '%s' was a %s and is a %s now: it starts empty",
                   shelf->script, s->name, type_names[s->type], type_names[now->type]);
        else
            mj_log(MJ_LOG_INFO, "state", "%s: %s '%s' is not declared any more: it is forgotten",
                   shelf->script, type_names[s->type], s->name);
        unshelve(shelf, i);
    }
}

static void commit_set(struct mj_plan *p, struct planned_set *planned)
{
    mj_set_configure(planned->set, &planned->options);
    if (planned->gives) {
        size_t count = planned->members.count;
        int err = mj_set_give(planned->set, p->shelf->script, &planned->members);
        if (err)
            mj_log(MJ_LOG_ERROR, "state", "%s: set '%s' did not get all of its %zu members: %s",
                   p->shelf->script, mj_set_name(planned->set), count, mj_strerror(err));
    }
    mj_sets_declare(p->shelf->store->sets, planned->set);
}

void mj_plan_commit(struct mj_plan *p)
{
    forget(p);
    for (size_t i = 0; i < p->count; i++) {
        struct mj_state *s = p->states[i].state;
        if (on_shelf(p->shelf, s->name) != s)
            mj__shelve(p->shelf, s);
        configure(&p->states[i]);
        find_metrics(s);
    }
    for (size_t i = 0; i < p->set_count; i++)
        commit_set(p, &p->sets[i]);
}
