/* Whole frames: events point into the frame and print as JSON, counts add up, and a decoder that
 * has seen other frames says the same as a fresh one. */
#include <cJSON.h>

#include "atproto/syntax.h"
#include "event/decode.h"
#include "event/jetstream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

struct run {
    struct mj_span frame;
    unsigned events, dropped;
    uint64_t sum; /* of everything that was said, in order */
};

static void inside(const struct run *r, struct mj_span s)
{
    REQUIRE(s.len == 0 || (s.ptr >= r->frame.ptr && s.ptr + s.len <= r->frame.ptr + r->frame.len));
}

static void add(struct run *r, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        r->sum = (r->sum ^ ((const uint8_t *)p)[i]) * 0x100000001b3;
}

static int on_event(void *ctx, struct mj_event *ev)
{
    static struct mj_buf json;
    struct run *r = ctx;
    r->events++;
    inside(r, ev->did);
    inside(r, ev->time);
    inside(r, ev->collection);
    inside(r, ev->rkey);
    inside(r, ev->rev);
    inside(r, ev->cid);
    inside(r, ev->record);
    inside(r, ev->handle);
    inside(r, ev->status);
    REQUIRE(mj_did_valid(ev->did) && mj_datetime_valid(ev->time) && ev->seq > 0);
    if (ev->kind == MJ_KIND_COMMIT)
        REQUIRE(mj_nsid_valid(ev->collection) && mj_rkey_valid(ev->rkey) && mj_tid_valid(ev->rev));
    json.len = 0;
    int err = mj_jetstream_encode(ev, NULL, &json);
    if (ev->kind != MJ_KIND_COMMIT || ev->op == MJ_OP_DELETE)
        REQUIRE(err == 0);
    else
        REQUIRE((mj_record_check(ev->record) == 0) == (err == 0));
    if (err == 0) {
        cJSON *tree = cJSON_ParseWithLength((const char *)json.ptr, json.len);
        REQUIRE(tree);
        cJSON_Delete(tree);
        /* What the syntax checks promised: the general way of printing finds nothing to escape. */
        static struct mj_buf general;
        struct mj_event copy = *ev;
        copy.plain = false;
        general.len = 0;
        REQUIRE(mj_jetstream_encode(&copy, NULL, &general) == 0);
        REQUIRE(mj_span_eq(mj_buf_span(&json), mj_buf_span(&general)));
    }
    add(r, &err, sizeof err);
    add(r, json.ptr, json.len);
    return 0;
}

static void on_drop(void *ctx, int reason, struct mj_span path)
{
    struct run *r = ctx;
    r->dropped++;
    REQUIRE(reason < 0);
    inside(r, path);
    add(r, &reason, sizeof reason);
}

static int run(struct mj_decoder *d, struct mj_span frame, struct run *r, struct mj_frame *out)
{
    *r = (struct run){.frame = frame};
    mj_decoder_on_drop(d, on_drop, r);
    int err = mj_decode(d, frame, out, on_event, r);
    REQUIRE(err <= 0);
    REQUIRE(out->events == r->events && out->dropped == r->dropped);
    REQUIRE(err == 0 || r->events == 0);
    REQUIRE(out->seq >= 0 && (unsigned)out->type < MJ_FRAME_TYPE_COUNT);
    inside(r, out->did);
    inside(r, out->time);
    inside(r, out->name);
    inside(r, out->message);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mj_decoder *used;
    if (!used)
        used = mj_decoder_new();
    struct mj_decoder *fresh = mj_decoder_new();
    struct run a, b;
    struct mj_frame fa, fb;
    /* Without hashing first: otherwise no mutated record would ever be printed. */
    for (int hash = 0; hash < 2; hash++) {
        mj_decoder_set_hash(used, hash);
        mj_decoder_set_hash(fresh, hash);
        int ea = run(used, mj_span(data, size), &a, &fa);
        int eb = run(fresh, mj_span(data, size), &b, &fb);
        REQUIRE(ea == eb && a.sum == b.sum && a.events == b.events && fa.seq == fb.seq);
    }
    mj_decoder_free(fresh);
    return 0;
}
