#include "flow/operator.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>

#include "atproto/utf8.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "flow/recent.h"

#define ERROR_BURST 5 /* lines per second */

struct mj_operator {
    enum mj_node_type type;
    enum mj_by by;
    struct mj_path *paths; /* owned; of strip, keep, redact, or of `by` */
    size_t path_count;
    size_t removals;       /* strip: so many of the paths, none of them twice */
    char **texts;          /* owned array of owned texts: what the paths point into */
    struct mj_buf item;    /* redact: the text as CBOR; keep: the record being made */
    struct mj__keep *keep; /* owned */
    double part;
    int64_t within_us;
    int64_t interval_ns,
        burst_ns;           /* limit: one event's worth, and all but one of a full bucket's */
    int64_t full_ns;        /* limit without a key: when the one bucket will be full */
    struct mj_recent *seen; /* owned; dedupe: until when (µs); limit: when full (ns) */
    char *text;             /* owned: the options */
    struct mj_log_gate gate;
};

/* Fixed: a sample is the same on every machine. */
#define SAMPLE_SEED UINT64_C(0x6d6f6f6e6a6574) /* "moonjet" */

static uint64_t key_seed;

static void make_seed(void)
{
    if (getrandom(&key_seed, sizeof key_seed, 0) != sizeof key_seed)
        key_seed = (uint64_t)mj_now_us() ^ (uint64_t)(uintptr_t)&key_seed;
}

uint64_t mj_key_hash(struct mj_span bytes)
{
    return XXH3_64bits_withSeed(bytes.ptr, bytes.len, key_seed);
}

/* Names of fields, by enum mj_by. */
static const char *const fields[] = {
#define X(by, name) [by] = name,
    MJ_BY_FIELDS(X)
#undef X
};

enum mj_by mj_by_named(struct mj_span name)
{
    for (size_t i = 0; i < MJ_COUNT(fields); i++)
        if (fields[i] && mj_span_is(name, fields[i]))
            return (enum mj_by)i;
    return MJ_BY_PATH;
}

/* A path that would be a field but for its case finds nothing in records, whose names begin with
 * small letters: everything would pass, and nobody be told. */
static int check_case(struct mj_span path, struct mj_buf *error)
{
    for (size_t i = 0; i < MJ_COUNT(fields); i++)
        if (fields[i] && strlen(fields[i]) == path.len &&
            strncasecmp(fields[i], (const char *)path.ptr, path.len) == 0) {
            mj_buf_printf(error, "'by': an event has no '%.*s'; did you mean '%s'?", (int)path.len,
                          (const char *)path.ptr, fields[i]);
            return MJ_EINVAL;
        }
    return 0;
}

static int add_path(struct mj_operator *o, struct mj_span text, struct mj_buf *error)
{
    char *copy = mj_span_dup(text);
    o->texts[o->path_count] = copy;
    struct mj_path *path = &o->paths[o->path_count++];
    int err = mj_path_parse(path, mj_str(copy));
    if (!err && (!path->count || strlen(copy) != text.len))
        err = MJ_ESYNTAX;
    if (err)
        mj_buf_printf(error,
                      err == MJ_ELIMIT ? "the path '%.80s' has more than 64 parts"
                                       : "'%.80s' is no path; write \"reply.root.uri\" or "
                                         "\"embed.images[1].alt\"",
                      copy);
    return err;
}

static int take_paths(struct mj_operator *o, const struct mj_operator_cfg *cfg,
                      struct mj_buf *error)
{
    bool edits =
        cfg->type == MJ_NODE_STRIP || cfg->type == MJ_NODE_KEEP || cfg->type == MJ_NODE_REDACT;
    size_t n = edits ? cfg->path_count : cfg->by == MJ_BY_PATH;
    if (edits && (n < 1 || n > MJ_OPERATOR_PATHS)) {
        mj_buf_printf(error, "%s wants 1 to %d paths", mj_node_type_name(cfg->type),
                      MJ_OPERATOR_PATHS);
        return MJ_ELIMIT;
    }
    /* keep leaves $type, too */
    o->paths = mj_calloc(n + 1, sizeof *o->paths);
    o->texts = mj_calloc(n + 1, sizeof *o->texts);
    int err = !edits && n ? check_case(cfg->by_path, error) : 0;
    for (size_t i = 0; i < n && !err; i++)
        err = add_path(o, edits ? cfg->paths[i] : cfg->by_path, error);
    if (!err && cfg->type == MJ_NODE_KEEP)
        err = add_path(o, MJ_SPAN("$type"), error);
    return err;
}

/* The order in which strip removes: of list items the last first, since those behind one move up,
 * and what lies in an item before the item. 0: the same place. */
static int by_removal(const void *a, const void *b)
{
    const struct mj_path *x = a, *y = b;
    for (unsigned i = 0; i < x->count && i < y->count; i++) {
        const struct mj_step *p = &x->steps[i], *q = &y->steps[i];
        if (p->index != q->index)
            return p->index > q->index ? -1 : 1;
        if (!p->index && !mj_span_eq(p->key, q->key))
            return mj_span_cmp(p->key, q->key);
    }
    return x->count == y->count ? 0 : x->count > y->count ? -1 : 1;
}

/* One path for both: "a.1" also finds what "a[1]" does. */
static void merge(struct mj_path *into, const struct mj_path *path)
{
    for (unsigned i = 0; i < into->count; i++)
        if (!into->steps[i].key.ptr)
            into->steps[i].key = path->steps[i].key;
}

static void sort_for_removal(struct mj_operator *o)
{
    size_t n = 1;
    qsort(o->paths, o->path_count, sizeof *o->paths, by_removal);
    for (size_t i = 1; i < o->path_count; i++)
        if (by_removal(&o->paths[n - 1], &o->paths[i]) == 0)
            merge(&o->paths[n - 1], &o->paths[i]);
        else
            o->paths[n++] = o->paths[i];
    o->removals = n;
}

static int take_numbers(struct mj_operator *o, const struct mj_operator_cfg *cfg,
                        struct mj_buf *error)
{
    int64_t max = cfg->max ? cfg->max : MJ_OPERATOR_MAX;
    if (cfg->type == MJ_NODE_REDACT && !mj_utf8_valid(cfg->text)) {
        mj_buf_puts(error, "the text is not valid UTF-8");
        return MJ_EINVAL;
    }
    if (cfg->type == MJ_NODE_SAMPLE && !(cfg->part >= 0 && cfg->part <= 1)) {
        mj_buf_puts(error, "sample wants a part from 0 to 1");
        return MJ_EINVAL;
    }
    if (max < 1 || max > MJ_RECENT_MAX) {
        mj_buf_printf(error, "'max' is 1 to %d", MJ_RECENT_MAX);
        return MJ_ELIMIT;
    }
    if (cfg->type == MJ_NODE_DEDUPE) {
        if (cfg->within_us < 1) {
            mj_buf_puts(error, "'within' is how long something counts as seen: \"30m\"");
            return MJ_EINVAL;
        }
        o->seen = mj_recent_new((size_t)max, false);
    }
    if (cfg->type == MJ_NODE_LIMIT) {
        int64_t burst = cfg->burst ? cfg->burst : cfg->count;
        o->interval_ns = cfg->count > 0 ? cfg->period_us * 1000 / cfg->count : 0;
        if (o->interval_ns < 1) {
            mj_buf_puts(error, "'rate' is a number of events and a time: \"6/m\"");
            return MJ_EINVAL;
        }
        /* A bucket that takes centuries to fill again would leave the range of a time. */
        if (burst < 1 || burst > 1000000000 ||
            burst - 1 > INT64_C(3000000000000000000) / o->interval_ns) {
            mj_buf_puts(error, "'burst' is 1 to 1e9, and no more than a hundred years' worth");
            return MJ_ELIMIT;
        }
        o->burst_ns = (burst - 1) * o->interval_ns;
        if (o->by != MJ_BY_ALL)
            o->seen = mj_recent_new((size_t)max, true);
    }
    return 0;
}

/* As mj_duration_us() reads it; `per`: as behind the slash of a rate, where "1h" is "h". */
static void put_duration(struct mj_buf *b, int64_t us, bool per)
{
    static const struct {
        const char *name;
        int64_t us;
    } units[] = {{"d", INT64_C(86400000000)},
                 {"h", INT64_C(3600000000)},
                 {"m", 60000000},
                 {"s", 1000000},
                 {"ms", 1000}};
    for (size_t i = 0; i < MJ_COUNT(units); i++)
        if (per && us == units[i].us) {
            mj_buf_puts(b, units[i].name);
            return;
        } else if (us >= units[i].us) {
            mj_buf_printf(b, "%lld%s", (long long)(us / units[i].us), units[i].name);
            us %= units[i].us;
        }
}

static void describe(struct mj_operator *o, const struct mj_operator_cfg *cfg)
{
    struct mj_buf b = {0}, key = {0};
    if (cfg->by == MJ_BY_PATH)
        mj_buf_put_json(&key, cfg->by_path);
    else if (cfg->by == MJ_BY_KEY)
        mj_buf_puts(&key, "a function");
    else if (cfg->by != MJ_BY_ALL)
        mj_buf_printf(&key, "\"%s\"", fields[cfg->by]);
    switch (cfg->type) {
    case MJ_NODE_SAMPLE:
        mj_buf_printf(&b, "%g, %s", cfg->part, mj_buf_cstr(&key));
        break;
    case MJ_NODE_DEDUPE:
        mj_buf_printf(&b, "{ by = %s, within = \"", mj_buf_cstr(&key));
        put_duration(&b, cfg->within_us, false);
        mj_buf_puts(&b, "\"");
        if (cfg->max)
            mj_buf_printf(&b, ", max = %lld", (long long)cfg->max);
        mj_buf_puts(&b, " }");
        break;
    case MJ_NODE_LIMIT:
        mj_buf_printf(&b, "{ rate = \"%lld/", (long long)cfg->count);
        put_duration(&b, cfg->period_us, true);
        mj_buf_puts(&b, "\"");
        if (key.len)
            mj_buf_printf(&b, ", by = %s", mj_buf_cstr(&key));
        if (cfg->max)
            mj_buf_printf(&b, ", max = %lld", (long long)cfg->max);
        if (cfg->burst)
            mj_buf_printf(&b, ", burst = %lld", (long long)cfg->burst);
        mj_buf_puts(&b, " }");
        break;
    default:
        for (size_t i = 0; i < cfg->path_count; i++) {
            mj_buf_puts(&b, i ? ", " : "");
            mj_buf_put_json(&b, cfg->paths[i]);
        }
        if (cfg->type == MJ_NODE_REDACT) {
            mj_buf_puts(&b, ", ");
            mj_buf_put_json(&b, cfg->text);
        }
        break;
    }
    mj_buf_deinit(&key);
    mj_buf_cstr(&b);
    o->text = (char *)b.ptr;
}

int mj_operator_new(const struct mj_operator_cfg *cfg, struct mj_operator **out,
                    struct mj_buf *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_seed);
    struct mj_operator *o = mj_calloc(1, sizeof *o);
    o->type = cfg->type;
    o->by = cfg->by;
    o->part = cfg->part;
    o->within_us = cfg->within_us;
    int err = take_paths(o, cfg, error);
    if (!err)
        err = take_numbers(o, cfg, error);
    if (err) {
        mj_operator_free(o);
        return err;
    }
    if (cfg->type == MJ_NODE_STRIP)
        sort_for_removal(o);
    if (cfg->type == MJ_NODE_KEEP)
        o->keep = mj__keep_new(o->paths, o->path_count);
    if (cfg->type == MJ_NODE_REDACT)
        mj_cbor_put_text(&o->item, cfg->text);
    describe(o, cfg);
    *out = o;
    return 0;
}

void mj_operator_free(struct mj_operator *o)
{
    if (!o)
        return;
    for (size_t i = 0; o->texts && i < o->path_count; i++)
        free(o->texts[i]);
    free(o->texts);
    free(o->paths);
    mj__keep_free(o->keep);
    mj_recent_free(o->seen);
    mj_buf_deinit(&o->item);
    free(o->text);
    free(o);
}

const char *mj_operator_text(const struct mj_operator *o) { return o->text; }

bool mj_operator_reads_record(const struct mj_operator *o)
{
    bool edits = o->type == MJ_NODE_STRIP || o->type == MJ_NODE_KEEP || o->type == MJ_NODE_REDACT;
    return edits || o->by == MJ_BY_TEXT || o->by == MJ_BY_PATH || o->by == MJ_BY_KEY;
}

void mj__operator_adopt(struct mj_operator *o, struct mj_operator *old)
{
    if (o->type != old->type || strcmp(o->text, old->text) != 0)
        return;
    struct mj_recent *fresh = o->seen;
    o->seen = old->seen;
    old->seen = fresh;
    o->full_ns = old->full_ns;
}

/* ---- keys ---- */

static uint64_t add_hash(uint64_t seed, struct mj_span s)
{
    return XXH3_64bits_withSeed(s.ptr, s.len, seed);
}

static struct mj_span number_text(int64_t n, char out[24])
{
    return mj_span(out, (size_t)snprintf(out, 24, "%lld", (long long)n));
}

static struct mj_span text_of(const struct mj_event *ev)
{
    struct mj_span value;
    struct mj_cbor_head head;
    if (!ev->record.len || mj_cbor_map_get(ev->record, MJ_SPAN("text"), &value))
        return mj_span(NULL, 0);
    struct mj_cbor c = mj_cbor(value);
    return mj_cbor_next(&c, &head) || head.type != MJ_CBOR_TEXT ? mj_span(NULL, 0) : head.s;
}

/* The field's text, empty where the event has none; `number` is room for that of a number. Not of
 * the URI, which is put together. */
static struct mj_span field_of(enum mj_by by, const struct mj_event *ev, char number[24])
{
    switch (by) {
    case MJ_BY_DID:
        return ev->did;
    case MJ_BY_COLLECTION:
        return ev->collection;
    case MJ_BY_TEXT:
        return text_of(ev);
    case MJ_BY_RKEY:
        return ev->rkey;
    case MJ_BY_REV:
        return ev->rev;
    case MJ_BY_CID:
        return ev->cid;
    case MJ_BY_KIND:
        return mj_str(mj_kind_name(ev->kind));
    case MJ_BY_OP:
        return mj_str(mj_op_name(ev->op));
    case MJ_BY_SEQ:
        return number_text(ev->seq, number);
    case MJ_BY_TIME:
        return ev->time;
    case MJ_BY_TIME_US:
        return number_text(ev->time_us, number);
    case MJ_BY_ACTIVE:
        return ev->kind != MJ_KIND_ACCOUNT ? mj_span(NULL, 0)
                                           : mj_str(ev->active ? "true" : "false");
    case MJ_BY_STATUS:
        return ev->status;
    case MJ_BY_HANDLE:
        return ev->handle;
    case MJ_BY_ALL:
    case MJ_BY_URI:
    case MJ_BY_PATH:
    case MJ_BY_KEY:
        break;
    }
    return mj_span(NULL, 0);
}

/* The hash of what `by` names; false when the event does not have it. */
static bool find_key(const struct mj_operator *o, const struct mj_event *ev, uint64_t seed,
                     uint64_t *hash)
{
    struct mj_span value = {0};
    char number[24];
    if (o->by == MJ_BY_URI) {
        if (ev->kind != MJ_KIND_COMMIT)
            return false;
        *hash = add_hash(add_hash(add_hash(seed, ev->did), ev->collection), ev->rkey);
        return true;
    }
    if (o->by == MJ_BY_PATH) {
        if (!ev->record.len || mj_path_find(ev->record, o->paths, &value))
            return false;
        value = mj_cbor_item(value);
    } else {
        value = field_of(o->by, ev, number);
    }
    if (!value.len)
        return false;
    *hash = add_hash(seed, value);
    return true;
}

/* ---- pass or drop ---- */

static enum mj_verdict run_sample(const struct mj_operator *o, const struct mj_event *ev)
{
    uint64_t hash;
    if (!find_key(o, ev, SAMPLE_SEED, &hash))
        hash = add_hash(SAMPLE_SEED, ev->did);
    return (double)(hash >> 11) * 0x1p-53 < o->part ? MJ_VERDICT_PASS : MJ_VERDICT_DROP;
}

static enum mj_verdict run_dedupe(struct mj_operator *o, const struct mj_event *ev, uint64_t hash)
{
    int64_t *until = mj_recent_find(o->seen, hash);
    if (until && *until > ev->time_us)
        return MJ_VERDICT_DROP;
    mj_recent_add(o->seen, hash, ev->time_us + o->within_us, ev->time_us);
    return MJ_VERDICT_PASS;
}

static enum mj_verdict run_limit(struct mj_operator *o, const struct mj_event *ev, uint64_t hash)
{
    int64_t now = ev->time_us * 1000;
    int64_t *full = o->seen ? mj_recent_find(o->seen, hash) : &o->full_ns;
    int64_t at = full && *full > now ? *full : now;
    if (at - now > o->burst_ns)
        return MJ_VERDICT_DROP;
    if (full)
        *full = at + o->interval_ns;
    else
        mj_recent_add(o->seen, hash, at + o->interval_ns, now);
    return MJ_VERDICT_PASS;
}

/* ---- edits ---- */

static int redact(struct mj_operator *o, struct mj_node *n, const struct mj_event *ev)
{
    struct mj_span value;
    struct mj_cbor_head head;
    if (mj_path_find(ev->record, o->paths, &value))
        return 0;
    struct mj_cbor c = mj_cbor(value);
    if (mj_cbor_next(&c, &head) || head.type != MJ_CBOR_TEXT ||
        mj_span_eq(mj_cbor_item(value), mj_buf_span(&o->item)))
        return 0;
    return mj_patch_set(&n->patch, o->paths, mj_buf_span(&o->item));
}

static int keep(struct mj_operator *o, struct mj_node *n, const struct mj_event *ev)
{
    static const struct mj_path whole;
    o->item.len = 0;
    mj__keep_write(o->keep, ev->record, &o->item);
    /* Nothing is ever added, so the same length is the same record. */
    return o->item.len == ev->record.len ? 0
                                         : mj_patch_set(&n->patch, &whole, mj_buf_span(&o->item));
}

static int strip(struct mj_operator *o, struct mj_node *n)
{
    for (size_t i = 0; i < o->removals; i++) {
        int err = mj_patch_unset(&n->patch, &o->paths[i]);
        if (err && err != MJ_ETYPE) /* a part of the path is no container: nothing there */
            return err;
    }
    return 0;
}

static enum mj_verdict run_edit(struct mj_operator *o, struct mj_node *n, const struct mj_event *ev)
{
    mj_patch_begin(&n->patch, ev->record);
    if (!ev->record.len)
        return MJ_VERDICT_PASS;
    int err = o->type == MJ_NODE_STRIP  ? strip(o, n)
              : o->type == MJ_NODE_KEEP ? keep(o, n, ev)
                                        : redact(o, n, ev);
    if (!err)
        return MJ_VERDICT_PASS;
    n->reason = mj_strerror(err);
    mj_log_limited(&o->gate, ERROR_BURST, MJ_LOG_ERROR, "flow", "%s:%u %s: %s; at://%.*s/%.*s/%.*s",
                   n->file, n->line, n->name, mj_strerror(err), (int)ev->did.len,
                   (const char *)ev->did.ptr, (int)ev->collection.len,
                   (const char *)ev->collection.ptr, (int)ev->rkey.len, (const char *)ev->rkey.ptr);
    return MJ_VERDICT_ERROR;
}

enum mj_verdict mj__operator_run(struct mj_node *n, const struct mj_event *ev)
{
    struct mj_operator *o = n->op;
    uint64_t hash = 0;
    if (o->type == MJ_NODE_SAMPLE)
        return run_sample(o, ev);
    if (o->type != MJ_NODE_DEDUPE && o->type != MJ_NODE_LIMIT)
        return run_edit(o, n, ev);
    if (o->by == MJ_BY_KEY) {
        enum mj_verdict v = n->key(n, ev, &hash);
        if (v != MJ_VERDICT_PASS)
            return v == MJ_VERDICT_DROP ? MJ_VERDICT_PASS : v;
    } else if (o->by != MJ_BY_ALL && !find_key(o, ev, key_seed, &hash)) {
        return MJ_VERDICT_PASS;
    }
    return o->type == MJ_NODE_DEDUPE ? run_dedupe(o, ev, hash) : run_limit(o, ev, hash);
}
