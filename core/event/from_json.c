#include "event/from_json.h"

#include "atproto/syntax.h"
#include "base/json.h"
#include "event/json_in.h"

#define KEPT_MAX (4u << 20)                  /* bytes a buffer keeps from one event to the next */
#define TIME_MAX INT64_C(253402300799999999) /* µs: the last of the year 9999 */

struct mj_from_json {
    struct mj__in in;
    uint8_t cid[MJ_CID_MAX];
    char time[28];  /* of a commit */
    int64_t second; /* that `time` is of; events come in the order of time */
};

/* Members, by the object they stand in. */
enum {
    DID = 1 << 0,
    TIME_US = 1 << 1,
    KIND = 1 << 2,
    COMMIT = 1 << 3,
    IDENTITY = 1 << 4,
    ACCOUNT = 1 << 5,

    REV = 1 << 6,
    OPERATION = 1 << 7,
    COLLECTION = 1 << 8,
    RKEY = 1 << 9,
    RECORD = 1 << 10,
    CID = 1 << 11,

    OWN_DID = 1 << 12,
    SEQ = 1 << 13,
    TIME = 1 << 14,
    HANDLE = 1 << 15,
    ACTIVE = 1 << 16,
    STATUS = 1 << 17,
};

struct member {
    struct mj_span name;
    unsigned bit;
};

static const struct member members[] = {{MJ_SPAN("did"), DID},
                                        {MJ_SPAN("time_us"), TIME_US},
                                        {MJ_SPAN("kind"), KIND},
                                        {MJ_SPAN("commit"), COMMIT},
                                        {MJ_SPAN("identity"), IDENTITY},
                                        {MJ_SPAN("account"), ACCOUNT},
                                        {{NULL, 0}, 0}};
static const struct member commit_members[] = {
    {MJ_SPAN("rev"), REV},   {MJ_SPAN("operation"), OPERATION}, {MJ_SPAN("collection"), COLLECTION},
    {MJ_SPAN("rkey"), RKEY}, {MJ_SPAN("record"), RECORD},       {MJ_SPAN("cid"), CID},
    {{NULL, 0}, 0}};
static const struct member identity_members[] = {{MJ_SPAN("did"), OWN_DID},
                                                 {MJ_SPAN("handle"), HANDLE},
                                                 {MJ_SPAN("seq"), SEQ},
                                                 {MJ_SPAN("time"), TIME},
                                                 {{NULL, 0}, 0}};
static const struct member account_members[] = {
    {MJ_SPAN("active"), ACTIVE}, {MJ_SPAN("did"), OWN_DID}, {MJ_SPAN("seq"), SEQ},
    {MJ_SPAN("status"), STATUS}, {MJ_SPAN("time"), TIME},   {{NULL, 0}, 0}};

/* An event while it is read. */
struct reading {
    struct mj_from_json *r;
    struct mj__in *in;
    struct mj_event *ev;
    unsigned have;
    struct mj_span own_did;
};

struct mj_from_json *mj_from_json_new(void) { return mj_calloc(1, sizeof(struct mj_from_json)); }

void mj_from_json_free(struct mj_from_json *r)
{
    if (!r)
        return;
    mj_buf_deinit(&r->in.out);
    mj_buf_deinit(&r->in.text);
    free(r->in.entries);
    free(r);
}

static const uint8_t *object(struct reading *x, const uint8_t *p, const struct member *table);

/* A text that passes `valid`, or `err`. */
static const uint8_t *text_of(struct mj__in *in, const uint8_t *p, struct mj_span *out,
                              bool (*valid)(struct mj_span), int err)
{
    const uint8_t *next = mj__in_text(in, p, out);
    return !next || !valid || valid(*out) ? next : mj__in_fail(in, p, err);
}

static const uint8_t *name_of(struct mj__in *in, const uint8_t *p, const char *(*name)(int), int n,
                              int *out, int err)
{
    struct mj_span text;
    const uint8_t *next = mj__in_text(in, p, &text);
    if (!next)
        return NULL;
    for (*out = 0; *out < n; ++*out)
        if (mj_span_is(text, name(*out)) && text.len)
            return next;
    return mj__in_fail(in, p, err);
}

static const char *kind_name(int i) { return mj_kind_name((enum mj_kind)i); }
static const char *op_name(int i) { return mj_op_name((enum mj_op)i); }

static const uint8_t *cid(struct reading *x, const uint8_t *p)
{
    struct mj_span text;
    const uint8_t *next = mj__in_text(x->in, p, &text);
    if (!next)
        return NULL;
    int n = mj_cid_from_text(text, x->r->cid);
    if (n < 0)
        return mj__in_fail(x->in, p, MJ_ECID);
    x->ev->cid = mj_span(x->r->cid, (size_t)n);
    return next;
}

static const uint8_t *record(struct reading *x, const uint8_t *p)
{
    struct mj__in *in = x->in;
    if (p == in->end || *p != '{')
        return mj__in_fail(in, p, p == in->end ? MJ_ESYNTAX : MJ_ETYPE);
    if (mj__in_room(in, p))
        return mj__in_fail(in, p, MJ_ENOMEM);
    const uint8_t *next = mj__in_value(in, p, 0);
    if (!next)
        return NULL;
    if (in->shape != MJ__PLAIN)
        return mj__in_fail(in, p, MJ_ERECORD);
    if (in->weight > mj__weight_max(in->out.len))
        return mj__in_fail(in, p, MJ_EDEPTH);
    x->ev->record = mj_buf_span(&in->out);
    return next;
}

static const uint8_t *truth(struct mj__in *in, const uint8_t *p, bool *out)
{
    struct mj_span rest = mj_span(p, (size_t)(in->end - p));
    *out = mj_span_starts(rest, MJ_SPAN("true"));
    if (!*out && !mj_span_starts(rest, MJ_SPAN("false")))
        return mj__in_fail(in, p, MJ_ETYPE);
    return p + (*out ? 4 : 5);
}

static const uint8_t *unknown(struct mj__in *in, const uint8_t *p)
{
    struct mj_span rest = mj_span(p, (size_t)(in->end - p)), raw;
    int type = mj_json_take(&rest, &raw);
    return type < 0 ? mj__in_fail(in, p, type) : raw.ptr + raw.len;
}

static const uint8_t *member(struct reading *x, const uint8_t *p, unsigned bit)
{
    struct mj__in *in = x->in;
    struct mj_event *ev = x->ev;
    const uint8_t *next;
    int n;
    switch (bit) {
    case DID:
        return text_of(in, p, &ev->did, mj_did_valid, MJ_EDID);
    case TIME_US:
        next = mj__in_int(in, p, &ev->time_us);
        return next && (ev->time_us < 0 || ev->time_us > TIME_MAX) ? mj__in_fail(in, p, MJ_EFIELD)
                                                                   : next;
    case KIND:
        next = name_of(in, p, kind_name, 3, &n, MJ_EFIELD);
        ev->kind = (enum mj_kind)n;
        return next;
    case COMMIT:
        return object(x, p, commit_members);
    case IDENTITY:
        return object(x, p, identity_members);
    case ACCOUNT:
        return object(x, p, account_members);
    case REV:
        return text_of(in, p, &ev->rev, mj_tid_valid, MJ_EREV);
    case OPERATION:
        next = name_of(in, p, op_name, 4, &n, MJ_EACTION);
        ev->op = (enum mj_op)n;
        return next;
    case COLLECTION:
        return text_of(in, p, &ev->collection, mj_nsid_valid, MJ_EPATH);
    case RKEY:
        return text_of(in, p, &ev->rkey, mj_rkey_valid, MJ_EPATH);
    case RECORD:
        return record(x, p);
    case CID:
        return cid(x, p);
    case OWN_DID:
        return mj__in_text(in, p, &x->own_did);
    case SEQ:
        return mj__in_int(in, p, &ev->seq);
    case TIME:
        return text_of(in, p, &ev->time, mj_datetime_valid, MJ_ETIME);
    case HANDLE:
        return mj__in_text(in, p, &ev->handle);
    case STATUS:
        return mj__in_text(in, p, &ev->status);
    case ACTIVE:
        return truth(in, p, &ev->active);
    default:
        return unknown(in, p);
    }
}

static const uint8_t *object(struct reading *x, const uint8_t *p, const struct member *table)
{
    struct mj__in *in = x->in;
    if (p == in->end || *p != '{')
        return mj__in_fail(in, p, p == in->end ? MJ_ESYNTAX : MJ_ETYPE);
    p = mj__in_blanks(in, p + 1);
    if (p < in->end && *p == '}')
        return p + 1;
    const struct member *expected = table;
    for (;;) {
        struct mj_span key;
        const uint8_t *at = p;
        if (!(p = mj__in_text(in, p, &key)))
            return NULL;
        /* Members mostly come in the order they are printed in. */
        const struct member *m = mj_span_eq(expected->name, key) ? expected : table;
        while (m->bit && !mj_span_eq(m->name, key))
            m++;
        expected = m + (m->bit != 0);
        if (x->have & m->bit)
            return mj__in_fail(in, at, MJ_EFIELD);
        x->have |= m->bit;
        if (!(p = mj__in_byte(in, p, ':')) || !(p = member(x, p, m->bit)))
            return NULL;
        p = mj__in_blanks(in, p);
        if (p < in->end && *p == '}')
            return p + 1;
        if (!(p = mj__in_byte(in, p, ',')))
            return NULL;
    }
}

/* The members are there that the kind needs, and no others. */
static bool complete(const struct reading *x)
{
    static const unsigned need[] = {
        [MJ_KIND_COMMIT] = COMMIT | REV | OPERATION | COLLECTION | RKEY,
        [MJ_KIND_IDENTITY] = IDENTITY | OWN_DID | SEQ | TIME,
        [MJ_KIND_ACCOUNT] = ACCOUNT | OWN_DID | SEQ | TIME | ACTIVE,
    };
    static const unsigned may[] = {
        [MJ_KIND_COMMIT] = RECORD | CID, [MJ_KIND_IDENTITY] = HANDLE, [MJ_KIND_ACCOUNT] = STATUS};
    const struct mj_event *ev = x->ev;
    unsigned all = DID | TIME_US | KIND | need[ev->kind];
    if ((x->have & all) != all || (x->have & ~(all | may[ev->kind])))
        return false;
    if (ev->kind == MJ_KIND_COMMIT)
        return ev->op == MJ_OP_DELETE ? !(x->have & (RECORD | CID)) : (x->have & RECORD) != 0;
    return mj_span_eq(ev->did, x->own_did);
}

/* Starts over with an input; NULL, with err, when it is too big. */
static const uint8_t *begin(struct mj__in *in, struct mj_span json)
{
    if (in->out.cap > KEPT_MAX)
        mj_buf_deinit(&in->out);
    if (in->text.cap > KEPT_MAX)
        mj_buf_deinit(&in->text);
    if (in->entry_cap * sizeof *in->entries > KEPT_MAX) {
        free(in->entries);
        in->entries = NULL;
        in->entry_cap = 0;
    }
    in->out.len = in->text.len = in->entry_count = 0;
    /* An absent input is an empty one. */
    const uint8_t *p = json.len ? json.ptr : (const uint8_t *)"";
    in->end = p + json.len;
    return json.len > MJ_JSON_EVENT_MAX ? mj__in_fail(in, p, MJ_EBIG) : mj__in_blanks(in, p);
}

static struct mj_span time_text(struct mj_from_json *r, int64_t us)
{
    const size_t fraction = sizeof "2026-01-02T03:04:05." - 1, len = fraction + 7;
    if (us / 1000000 != r->second || !*r->time)
        mj_datetime_make(us, r->time);
    r->second = us / 1000000;
    for (int64_t i = 6, rest = us % 1000000; i--; rest /= 10)
        r->time[fraction + (size_t)i] = (char)('0' + rest % 10);
    return mj_span(r->time, len);
}

int mj_event_from_json(struct mj_from_json *r, struct mj_span json, struct mj_event *ev, size_t *at)
{
    struct mj__in *in = &r->in;
    struct reading x = {.r = r, .in = in, .ev = ev};
    *ev = (struct mj_event){.kind = MJ_KIND_COMMIT};
    const uint8_t *start = begin(in, json), *p = start;
    if (p && (p = object(&x, p, members))) {
        p = mj__in_blanks(in, p);
        if (p != in->end)
            p = mj__in_fail(in, p, MJ_ETRAILING);
        else if (!complete(&x))
            p = mj__in_fail(in, start, MJ_EFIELD);
    }
    if (!p) {
        *at = json.len ? (size_t)(in->at - json.ptr) : 0;
        return in->err;
    }
    ev->plain = ev->record_checked = true;
    if (ev->kind == MJ_KIND_COMMIT)
        ev->time = time_text(r, ev->time_us);
    return 0;
}

int mj_cbor_from_json(struct mj_from_json *r, struct mj_span json, struct mj_span *cbor, size_t *at)
{
    struct mj__in *in = &r->in;
    const uint8_t *p = begin(in, json);
    if (p && mj__in_room(in, p))
        p = mj__in_fail(in, p, MJ_ENOMEM);
    if (p && (p = mj__in_value(in, p, 0))) {
        p = mj__in_blanks(in, p);
        if (p != in->end)
            p = mj__in_fail(in, p, MJ_ETRAILING);
        else if (in->weight > mj__weight_max(in->out.len))
            p = mj__in_fail(in, p, MJ_EDEPTH);
    }
    if (!p) {
        *at = json.len ? (size_t)(in->at - json.ptr) : 0;
        return in->err;
    }
    *cbor = mj_buf_span(&in->out);
    return 0;
}
