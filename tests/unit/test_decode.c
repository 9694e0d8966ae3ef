/* Frames: each reason to drop one or an operation of one, that siblings and later frames survive,
 * and the order-independent, tolerant reading of header and payload. Frames are built field by
 * field here, so that each test changes one thing. */
#include "cmocka_all.h"

#include "atproto/car.h"
#include "atproto/cbor.h"
#include "event/decode.h"
#include "event/jetstream.h"
#include "frames.h"
#include "json_cbor.h"

#define DID  "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
#define TIME "2026-01-02T03:04:05.678Z"
#define REV  "3jzfcijpj2z2a"

/* What came out of one frame. */
struct seen {
    unsigned events, drops;
    int reasons[MJ_OPS_MAX];
    char paths[MJ_OPS_MAX][64];
    struct mj_event first;
    struct mj_buf json; /* a line per event */
    int stop;           /* returned by the callback */
};

static int on_event(void *ctx, struct mj_event *ev)
{
    struct seen *s = ctx;
    if (s->events++ == 0)
        s->first = *ev;
    ev->time_us = 1000 + (int64_t)s->events;
    if (mj_jetstream_encode(ev, NULL, &s->json) == 0)
        mj_buf_putc(&s->json, '\n');
    return s->stop;
}

static void on_drop(void *ctx, int reason, struct mj_span path)
{
    struct seen *s = ctx;
    assert_true(s->drops < MJ_OPS_MAX);
    s->reasons[s->drops] = reason;
    snprintf(s->paths[s->drops++], sizeof s->paths[0], "%.*s", (int)path.len,
             path.len ? (const char *)path.ptr : "");
}

static struct mj_decoder *decoder;
static struct seen seen;
static struct mj_frame frame_out;

static int setup(void **state)
{
    (void)state;
    decoder = mj_decoder_new();
    mj_decoder_on_drop(decoder, on_drop, &seen);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mj_decoder_free(decoder);
    mj_buf_deinit(&seen.json);
    return 0;
}

/* Decodes an exactly sized heap copy, so that a read past the frame is seen. Spans in `seen` and
 * `frame_out` are dead afterwards unless `keep` takes the copy over. */
static int decode_keep(struct mj_span frame, uint8_t **keep)
{
    struct mj_buf json = seen.json;
    json.len = 0;
    seen = (struct seen){.json = json, .stop = seen.stop};
    uint8_t *copy = malloc(frame.len ? frame.len : 1);
    if (frame.len)
        memcpy(copy, frame.ptr, frame.len);
    int err = mj_decode(decoder, mj_span(copy, frame.len), &frame_out, on_event, &seen);
    if (keep)
        *keep = copy;
    else
        free(copy);
    assert_int_equal(frame_out.events, seen.events);
    assert_int_equal(frame_out.dropped, seen.drops);
    return err;
}

static int decode(struct mj_span frame) { return decode_keep(frame, NULL); }

/* --- building frames --- */

struct op {
    const char *action, *path;
    struct mj_span block; /* empty: no CID, no block */
    enum { PLAIN, NO_BLOCK, BAD_HASH, RAW_CID } kind;
};

struct build {
    const char *t;         /* "#commit" … */
    const char *omit;      /* a payload key to leave out */
    const char *key, *hex; /* a payload key to give this value instead */
    const char *extra_hex; /* an extra key and value, as one more pair */
    bool reverse;          /* payload keys backwards, header too */
    bool no_commit_block, root_other, trailing_section;
    const struct op *ops;
    size_t nops;
};

static const struct mj_span record = {(const uint8_t *)"\xa1\x61x\x01", 4};
static const struct op one_op[] = {
    {"create", "a.b.c/self", {(const uint8_t *)"\xa1\x61x\x01", 4}, 0}};

/* One pair of the payload: the value is appended by the caller between begin and end. */
struct pairs {
    struct mj_buf bytes;
    size_t start[32];
    size_t n;
    const struct build *b;
};

static bool pair(struct pairs *p, const char *key)
{
    if (p->b->omit && strcmp(p->b->omit, key) == 0)
        return false;
    p->start[p->n++] = p->bytes.len;
    mj_cbor_put_text(&p->bytes, mj_str(key));
    if (p->b->key && strcmp(p->b->key, key) == 0) {
        mj_test_hex(p->b->hex, &p->bytes);
        return false;
    }
    return true;
}

static void put_ops(struct pairs *p, struct mj_buf *blocks)
{
    bool want = pair(p, "ops");
    struct mj_buf none = {0}, *out = want ? &p->bytes : &none;
    mj_cbor_put_array(out, p->b->nops);
    for (size_t i = 0; i < p->b->nops; i++) {
        const struct op *op = &p->b->ops[i];
        struct mj_cid cid;
        struct mj_span block = op->block, id = mj_span(cid.bytes, MJ_CID_LEN);
        mj_cid_of(block, &cid);
        if (op->kind == RAW_CID)
            cid.bytes[1] = 0x55;
        mj_cbor_put_map(out, 3);
        mj_cbor_put_text(out, mj_str("cid"));
        if (block.len)
            mj_cbor_put_link(out, id);
        else
            mj_cbor_put_null(out);
        mj_cbor_put_text(out, mj_str("path"));
        mj_cbor_put_text(out, mj_str(op->path));
        mj_cbor_put_text(out, mj_str("action"));
        mj_cbor_put_text(out, mj_str(op->action));
        if (block.len && op->kind == BAD_HASH)
            mj_car_put_section(blocks, id, mj_str("\xa1\x61x\x02"));
        else if (block.len && op->kind != NO_BLOCK)
            mj_car_put_section(blocks, id, block);
    }
    mj_buf_deinit(&none);
}

static void text_pair(struct pairs *p, const char *key, const char *value)
{
    if (pair(p, key))
        mj_cbor_put_text(&p->bytes, mj_str(value));
}

static void build(const struct build *b, struct mj_buf *out)
{
    struct pairs p = {.b = b};
    MJ_AUTO_BUF blocks = {0}, car = {0};
    struct mj_cid commit, other;
    bool is_commit = strcmp(b->t, "#commit") == 0, is_sync = strcmp(b->t, "#sync") == 0;
    mj_cid_of(mj_str("the commit block"), &commit);
    mj_cid_of(mj_str("another"), &other);
    struct mj_span root = mj_span((b->root_other ? &other : &commit)->bytes, MJ_CID_LEN);
    mj_car_put_section(&blocks, mj_span(other.bytes, MJ_CID_LEN), mj_str("another"));
    if (pair(&p, "seq"))
        mj_cbor_put_int(&p.bytes, 77);
    if (is_commit)
        put_ops(&p, &blocks);
    if (!b->no_commit_block)
        mj_car_put_section(&blocks, mj_span(commit.bytes, MJ_CID_LEN), mj_str("the commit block"));
    mj_car_put_header(&car, root);
    mj_buf_put(&car, blocks.ptr, blocks.len);
    if (b->trailing_section)
        mj_buf_puts(&car, "\x05xyz");

    text_pair(&p, "time", TIME);
    if (is_commit) {
        text_pair(&p, "repo", DID);
        if (pair(&p, "commit"))
            mj_cbor_put_link(&p.bytes, mj_span(commit.bytes, MJ_CID_LEN));
        if (pair(&p, "tooBig"))
            mj_cbor_put_bool(&p.bytes, false);
        if (pair(&p, "since"))
            mj_cbor_put_null(&p.bytes);
    } else {
        text_pair(&p, "did", DID);
    }
    if (is_commit || is_sync) {
        text_pair(&p, "rev", REV);
        if (pair(&p, "blocks"))
            mj_cbor_put_bytes(&p.bytes, mj_buf_span(&car));
    }
    if (strcmp(b->t, "#identity") == 0)
        text_pair(&p, "handle", "h.example.com");
    if (strcmp(b->t, "#account") == 0) {
        if (pair(&p, "active"))
            mj_cbor_put_bool(&p.bytes, false);
        text_pair(&p, "status", "takendown");
    }
    if (strcmp(b->t, "#info") == 0) {
        text_pair(&p, "name", "OutdatedCursor");
        text_pair(&p, "message", "too old");
    }
    if (b->extra_hex) {
        p.start[p.n++] = p.bytes.len;
        mj_test_hex(b->extra_hex, &p.bytes);
    }

    mj_cbor_put_map(out, 2);
    for (int i = 0; i < 2; i++) {
        if ((i == 0) != b->reverse) {
            mj_cbor_put_text(out, mj_str("t"));
            mj_cbor_put_text(out, mj_str(b->t));
        } else {
            mj_cbor_put_text(out, mj_str("op"));
            mj_cbor_put_int(out, 1);
        }
    }
    mj_cbor_put_map(out, p.n);
    for (size_t i = 0; i < p.n; i++) {
        size_t at = b->reverse ? p.n - 1 - i : i;
        size_t end = at + 1 < p.n ? p.start[at + 1] : p.bytes.len;
        mj_buf_put(out, p.bytes.ptr + p.start[at], end - p.start[at]);
    }
    mj_buf_deinit(&p.bytes);
}

static int run(struct build b)
{
    MJ_AUTO_BUF frame = {0};
    if (!b.ops && strcmp(b.t, "#commit") == 0 && b.nops == 0) {
        b.ops = one_op;
        b.nops = 1;
    }
    build(&b, &frame);
    return decode(mj_buf_span(&frame));
}

#define COMMIT(...) run((struct build){.t = "#commit", __VA_ARGS__})

/* --- the tests --- */

static void test_good(void **state)
{
    (void)state;
    MJ_AUTO_BUF frame = {0};
    uint8_t *copy;
    for (int reverse = 0; reverse < 2; reverse++) {
        frame.len = 0;
        build(&(struct build){.t = "#commit", .reverse = reverse, .ops = one_op, .nops = 1},
              &frame);
        assert_int_equal(decode_keep(mj_buf_span(&frame), &copy), 0);
        assert_int_equal(frame_out.type, MJ_FRAME_COMMIT);
        assert_int_equal(frame_out.seq, 77);
        assert_true(mj_span_is(frame_out.did, DID));
        assert_true(mj_span_is(frame_out.time, TIME));
        assert_int_equal(seen.events, 1);
        assert_int_equal(seen.first.op, MJ_OP_CREATE);
        assert_int_equal(seen.first.seq, 77);
        assert_int_equal(seen.first.time_us, 0);
        assert_true(mj_span_is(seen.first.did, DID));
        assert_true(mj_span_is(seen.first.time, TIME));
        assert_true(mj_span_is(seen.first.rev, REV));
        assert_true(mj_span_is(seen.first.collection, "a.b.c"));
        assert_true(mj_span_is(seen.first.rkey, "self"));
        assert_true(mj_span_eq(seen.first.record, record));
        assert_true(mj_cid_matches(seen.first.cid, record));
        free(copy);
    }
}

static void test_other_types(void **state)
{
    (void)state;
    assert_int_equal(run((struct build){.t = "#identity"}), 0);
    assert_int_equal(frame_out.type, MJ_FRAME_IDENTITY);
    assert_string_equal(mj_buf_cstr(&seen.json),
                        "{\"did\":\"" DID "\",\"time_us\":1001,\"kind\":\"identity\",\"identity\":{"
                        "\"did\":\"" DID
                        "\",\"handle\":\"h.example.com\",\"seq\":77,\"time\":\"" TIME "\"}}\n");
    assert_int_equal(run((struct build){.t = "#identity", .omit = "handle"}), 0);
    assert_null(strstr(mj_buf_cstr(&seen.json), "handle"));
    assert_int_equal(run((struct build){.t = "#identity", .key = "handle", .hex = "f6"}), 0);
    assert_null(strstr(mj_buf_cstr(&seen.json), "handle"));
    assert_int_equal(run((struct build){.t = "#identity", .key = "handle", .hex = "01"}),
                     MJ_EFIELD);

    assert_int_equal(run((struct build){.t = "#account"}), 0);
    assert_int_equal(frame_out.type, MJ_FRAME_ACCOUNT);
    assert_non_null(strstr(mj_buf_cstr(&seen.json), "{\"active\":false,\"did\":"));
    assert_non_null(strstr(mj_buf_cstr(&seen.json), ",\"status\":\"takendown\",\"time\":"));
    assert_int_equal(run((struct build){.t = "#account", .omit = "status"}), 0);
    assert_int_equal(run((struct build){.t = "#account", .omit = "active"}), MJ_EFIELD);
    assert_int_equal(run((struct build){.t = "#account", .key = "active", .hex = "01"}), MJ_EFIELD);
    assert_int_equal(run((struct build){.t = "#account", .key = "status", .hex = "61ff"}),
                     MJ_EUTF8);

    /* Declares a state, carries no records. */
    assert_int_equal(run((struct build){.t = "#sync"}), 0);
    assert_int_equal(frame_out.type, MJ_FRAME_SYNC);
    assert_int_equal(seen.events, 0);
    assert_int_equal(run((struct build){.t = "#sync", .key = "blocks", .hex = "40"}), MJ_ECAR);
    assert_int_equal(run((struct build){.t = "#sync", .omit = "rev"}), MJ_EFIELD);
    assert_int_equal(run((struct build){.t = "#sync", .key = "rev", .hex = "6161"}), MJ_EREV);

    assert_int_equal(run((struct build){.t = "#info", .omit = "seq"}), 0);
    assert_int_equal(frame_out.type, MJ_FRAME_INFO);
    assert_int_equal(frame_out.seq, 0);
    assert_int_equal(run((struct build){.t = "#info", .omit = "name"}), MJ_EFIELD);

    static const char *const unknown[] = {
        "#handle", "#migrate", "#tombstone", "#later", "com.example.sync#commit", "commit", ""};
    for (size_t i = 0; i < MJ_COUNT(unknown); i++) {
        assert_int_equal(run((struct build){.t = unknown[i]}), 0);
        assert_int_equal(frame_out.type, MJ_FRAME_UNKNOWN);
        assert_int_equal(frame_out.seq, 77);
        assert_int_equal(seen.events, 0);
    }
}

static int hex(const char *text)
{
    MJ_AUTO_BUF b = {0};
    mj_test_hex(text, &b);
    return decode(mj_buf_span(&b));
}

#define H_INFO "a2 6174 65 23696e666f 626f70 01 "
static void test_framing(void **state)
{
    (void)state;
    static const struct {
        const char *what, *hex;
        int err;
    } cases[] = {
        {"empty", "", MJ_EFRAME},
        {"header only", H_INFO, MJ_EFRAME},
        {"payload not a map", H_INFO "80", MJ_EFRAME},
        {"header not a map", "80 a0", MJ_EFRAME},
        {"bytes after the payload", H_INFO "a1 646e616d65 6178 00", MJ_EFRAME},
        {"a third map", H_INFO "a1 646e616d65 6178 a0", MJ_EFRAME},
        {"good", H_INFO "a1 646e616d65 6178", 0},
        {"header in the other order", "a2 626f70 01 6174 65 23696e666f a1 646e616d65 6178", 0},
        {"unknown header key", "a3 6178 8101 626f70 01 6174 65 23696e666f a1 646e616d65 6178", 0},
        {"no t", "a1 626f70 01 a0", MJ_EFIELD},
        {"no op", "a1 6174 65 23696e666f a0", MJ_EFIELD},
        {"op as text", "a2 6174 65 23696e666f 626f70 6131 a0", MJ_EFIELD},
        {"t as bytes", "a2 6174 45 23696e666f 626f70 01 a0", MJ_EFIELD},
        {"op twice", "a3 6174 65 23696e666f 626f70 01 626f70 01 a0", MJ_EKEYDUP},
        {"header cut", "a2 6174 65 23", MJ_ETRUNC},
        {"header key not text", "a1 00 00 a0", MJ_EKEYTYPE},
        {"header indefinite", "bf ff a0", MJ_EINDEF},
        {"payload cut", H_INFO "a1 646e616d65 62", MJ_ETRUNC},
        {"payload key not text", H_INFO "a1 01 01", MJ_EKEYTYPE},
        {"payload key twice", H_INFO "a2 646e616d65 6178 646e616d65 6178", MJ_EKEYDUP},
        {"payload not minimal", H_INFO "a1 646e616d65 780178", MJ_EMINIMAL},
        {"unknown value not minimal", H_INFO "a2 6178 1801 646e616d65 6178", MJ_EMINIMAL},
        {"unknown value float", H_INFO "a2 6178 fb3ff8000000000000 646e616d65 6178", MJ_EFLOAT},
        {"unknown value bad text", H_INFO "a2 6178 61ff 646e616d65 6178", MJ_EUTF8},
        {"unknown key bad text", H_INFO "a2 61ff 01 646e616d65 6178", MJ_EUTF8},
        {"long unknown key bad text", H_INFO "a2 6861616161616161ff 01 646e616d65 6178", MJ_EUTF8},
        {"key with a NUL behind a known name", H_INFO "a2 656e616d6500 01 646e616d65 6178", 0},
        {"unknown tag", H_INFO "a2 6178 c101 646e616d65 6178", MJ_ETAG},
        {"unknown link malformed", H_INFO "a2 6178 d82a4100 646e616d65 6178", MJ_ECID},
        {"undefined", H_INFO "a2 6178 f7 646e616d65 6178", MJ_ESIMPLE},
        {"map count that cannot fit", H_INFO "bb7fffffffffffffff", MJ_ETRUNC},
        {"error", "a1 626f70 20 a2 656572726f72 6c467574757265437572736f72 676d657373616765 6178",
         0},
        {"error without a name", "a1 626f70 20 a0", MJ_EFIELD},
        {"op 2 is ignored", "a1 626f70 02 a1 63736571 05", 0},
        {"op -2 is ignored", "a1 626f70 21 a1 63736571 05", 0},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        int err = hex(cases[i].hex);
        if (err != cases[i].err)
            fail_msg("%s: %s, not %s", cases[i].what, mj_errlabel(err), mj_errlabel(cases[i].err));
    }
    MJ_AUTO_BUF b = {0};
    uint8_t *copy;
    mj_test_hex("a1 626f70 20 a2 656572726f72 6c467574757265437572736f72 676d657373616765 6178",
                &b);
    assert_int_equal(decode_keep(mj_buf_span(&b), &copy), 0);
    assert_int_equal(frame_out.type, MJ_FRAME_ERROR);
    assert_true(mj_span_is(frame_out.name, "FutureCursor"));
    assert_true(mj_span_is(frame_out.message, "x"));
    free(copy);
    assert_int_equal(hex("a1 626f70 02 a1 63736571 05"), 0);
    assert_int_equal(frame_out.type, MJ_FRAME_UNKNOWN);
    assert_int_equal(frame_out.seq, 5);
    /* Depth: hostile nesting under an unknown key. */
    b.len = 0;
    mj_test_hex(H_INFO "a2 6178", &b);
    for (int i = 0; i < 100000; i++)
        mj_buf_putc(&b, (char)0x81);
    mj_test_hex("00 646e616d65 6178", &b);
    assert_int_equal(decode(mj_buf_span(&b)), MJ_EDEPTH);
    /* Size. */
    b.len = 0;
    mj_test_hex(H_INFO, &b);
    mj_buf_reserve(&b, MJ_FRAME_MAX);
    memset(b.ptr + b.len, 0, MJ_FRAME_MAX);
    b.len = MJ_FRAME_MAX + 1;
    assert_int_equal(decode(mj_buf_span(&b)), MJ_EBIG);
    b.len = MJ_FRAME_MAX;
    assert_int_not_equal(decode(mj_buf_span(&b)), MJ_EBIG);
}

/* Reasons to drop a whole commit, one field at a time. */
static void test_commit_dropped(void **state)
{
    (void)state;
    static const struct {
        struct build b;
        int err;
    } cases[] = {
        {{.omit = "seq"}, MJ_EFIELD},
        {{.key = "seq", .hex = "00"}, MJ_EFIELD},
        {{.key = "seq", .hex = "20"}, MJ_EFIELD},
        {{.key = "seq", .hex = "1b0020000000000000"}, MJ_EFIELD}, /* 2^53 */
        {{.key = "seq", .hex = "1b001fffffffffffff"}, 0},
        {{.key = "seq", .hex = "6131"}, MJ_EFIELD},
        {{.omit = "time"}, MJ_EFIELD},
        {{.key = "time", .hex = "01"}, MJ_EFIELD},
        {{.key = "time", .hex = "6161"}, MJ_ETIME},
        {{.omit = "repo"}, MJ_EFIELD},
        {{.key = "repo", .hex = "6161"}, MJ_EDID},
        {{.omit = "rev"}, MJ_EFIELD},
        {{.key = "rev", .hex = "6161"}, MJ_EREV},
        {{.omit = "commit"}, MJ_EFIELD},
        {{.key = "commit", .hex = "f6"}, MJ_EFIELD},
        {{.key = "commit", .hex = "6161"}, MJ_EFIELD},
        {{.key = "commit", .hex = "d82a4100"}, MJ_ECID},
        {{.omit = "blocks"}, MJ_EFIELD},
        {{.key = "blocks", .hex = "40"}, MJ_EFIELD},
        {{.key = "blocks", .hex = "6161"}, MJ_EFIELD},
        {{.key = "blocks", .hex = "4100"}, MJ_ECAR},
        {{.omit = "ops"}, MJ_EFIELD},
        {{.key = "ops", .hex = "f6"}, MJ_EFIELD},
        {{.key = "ops", .hex = "a0"}, MJ_EFIELD},
        {{.key = "ops", .hex = "80"}, 0},
        {{.key = "ops", .hex = "8101"}, MJ_EFIELD},
        {{.key = "ops", .hex = "81a0"}, MJ_EFIELD},
        {{.key = "ops", .hex = "81a2 66616374696f6e 6178 6470617468 01"}, MJ_EFIELD},
        {{.key = "ops", .hex = "81a2 66616374696f6e 01 6470617468 6178"}, MJ_EFIELD},
        {{.key = "ops", .hex = "81a3 66616374696f6e 6178 6470617468 6178 63636964 01"}, MJ_EFIELD},
        {{.key = "ops", .hex = "81a3 66616374696f6e 6178 6470617468 6178 6470617468 6178"},
         MJ_EKEYDUP},
        {{.key = "ops", .hex = "81a2 66616374696f6e 6178 6470617468 61ff"}, MJ_EUTF8},
        {{.key = "ops", .hex = "9b7fffffffffffffff"}, MJ_ETRUNC},
        {{.key = "tooBig", .hex = "f5"}, MJ_ETOOBIG},
        {{.key = "tooBig", .hex = "01"}, MJ_EFIELD},
        {{.key = "tooBig", .hex = "f6"}, 0},
        {{.omit = "tooBig"}, 0},
        {{.omit = "since"}, 0},
        {{.key = "since", .hex = "6d 336a7a6663696a706a327a3261"}, 0},
        {{.no_commit_block = true}, MJ_EBLOCK},
        {{.root_other = true}, MJ_ECAR},
        {{.trailing_section = true}, MJ_ECAR},
        {{.extra_hex = "667265626173 65 f5"}, 0}, /* rebase is ignored */
        {{.extra_hex = "68707265764461746 1 f6"}, 0},
        {{.extra_hex = "65626c6f6273 f6"}, 0},
        {{.extra_hex = "63736571 05"}, MJ_EKEYDUP},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct build b = cases[i].b;
        b.t = "#commit";
        int err = run(b);
        if (err != cases[i].err)
            fail_msg("case %zu (%s %s): %s, not %s", i,
                     b.omit  ? b.omit
                     : b.key ? b.key
                             : "",
                     b.hex ? b.hex : "", mj_errlabel(err), mj_errlabel(cases[i].err));
        if (err)
            assert_int_equal(seen.events, 0);
        if (err && b.key && strcmp(b.key, "seq") != 0)
            assert_int_equal(frame_out.seq, 77); /* gap accounting goes on */
    }
}

/* Reasons to drop an operation. Its siblings before and behind must come out. */
static void test_op_dropped(void **state)
{
    (void)state;
    const struct mj_span other = mj_str("\xa1\x61y\x01");
    uint8_t *big = calloc(1, MJ_RECORD_MAX + 1);
    const struct {
        struct op op;
        int reason;
    } cases[] = {
        {{"move", "a.b.c/2", other, PLAIN}, MJ_EACTION},
        {{"", "a.b.c/2", other, PLAIN}, MJ_EACTION},
        {{"create", "a.b.c", other, PLAIN}, MJ_EPATH},
        {{"create", "", other, PLAIN}, MJ_EPATH},
        {{"create", "a.b/2", other, PLAIN}, MJ_EPATH},
        {{"create", "a.b.c/2/3", other, PLAIN}, MJ_EPATH},
        {{"create", "a.b.c/ 2", other, PLAIN}, MJ_EPATH},
        {{"create", "a.b.c/2", {0}, PLAIN}, MJ_EOPCID},
        {{"update", "a.b.c/2", {0}, PLAIN}, MJ_EOPCID},
        {{"delete", "a.b.c/2", other, PLAIN}, MJ_EOPCID},
        {{"create", "a.b.c/2", other, RAW_CID}, MJ_EOPCID},
        {{"create", "a.b.c/2", other, NO_BLOCK}, MJ_EBLOCK},
        {{"create", "a.b.c/2", other, BAD_HASH}, MJ_EHASH},
        {{"create", "a.b.c/2", {big, MJ_RECORD_MAX + 1}, PLAIN}, MJ_ELIMIT},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct op ops[] = {{"create", "a.b.c/1", record, PLAIN},
                           cases[i].op,
                           {"delete", "a.b.c/3", {0}, PLAIN},
                           {"update", "a.b.c/4", record, PLAIN}};
        assert_int_equal(COMMIT(.ops = ops, .nops = 4), 0);
        if (seen.events != 3 || seen.drops != 1 || seen.reasons[0] != cases[i].reason)
            fail_msg("case %zu: %u events, %s", i, seen.events, mj_errlabel(seen.reasons[0]));
        assert_string_equal(seen.paths[0], cases[i].op.path);
        const char *json = mj_buf_cstr(&seen.json);
        const char *a = strstr(json, "\"rkey\":\"1\""), *b = strstr(json, "\"rkey\":\"3\"");
        const char *c = strstr(json, "\"rkey\":\"4\"");
        assert_true(a && b > a && c > b);
        /* And alone. */
        assert_int_equal(COMMIT(.ops = &cases[i].op, .nops = 1), 0);
        assert_int_equal(seen.events, 0);
        assert_int_equal(seen.reasons[0], cases[i].reason);
    }
    struct op full = {"create", "a.b.c/2", {big, MJ_RECORD_MAX}, PLAIN};
    assert_int_equal(COMMIT(.ops = &full, .nops = 1), 0);
    assert_int_equal(seen.events, 1);
    free(big);

    /* A record the encoder refuses is the encoder's to tell: the event is handed over. */
    struct op bad = {"create", "a.b.c/2", mj_str("\xa1\x61x\xf7"), PLAIN};
    assert_int_equal(COMMIT(.ops = &bad, .nops = 1), 0);
    assert_int_equal(seen.events, 1);
    assert_int_equal(seen.json.len, 0);
}

static void test_no_hash(void **state)
{
    (void)state;
    struct op op = {"create", "a.b.c/2", record, BAD_HASH};
    mj_decoder_set_hash(decoder, false);
    assert_int_equal(COMMIT(.ops = &op, .nops = 1), 0);
    assert_int_equal(seen.events, 1);
    mj_decoder_set_hash(decoder, true);
    assert_int_equal(COMMIT(.ops = &op, .nops = 1), 0);
    assert_int_equal(seen.events, 0);
}

static void test_many_ops(void **state)
{
    (void)state;
    struct op ops[MJ_OPS_MAX + 1];
    char paths[MJ_OPS_MAX + 1][32];
    uint8_t records[MJ_OPS_MAX + 1][5];
    for (unsigned i = 0; i <= MJ_OPS_MAX; i++) { /* neither paths nor CIDs come sorted */
        snprintf(paths[i], sizeof paths[i], "a.b.c/%u", i * 7919 % 1000);
        memcpy(records[i], "\xa1\x61x\x18", 4);
        records[i][4] = (uint8_t)(24 + i % 100); /* some records twice, under one CID */
        ops[i] = (struct op){"create", paths[i], mj_span(records[i], 5), PLAIN};
    }
    assert_int_equal(COMMIT(.ops = ops, .nops = MJ_OPS_MAX), 0);
    assert_int_equal(seen.events, MJ_OPS_MAX);
    const char *line = mj_buf_cstr(&seen.json);
    for (unsigned i = 0; i < MJ_OPS_MAX; i++) { /* in operation order, each with its own record */
        char rkey[32], value[32];
        snprintf(rkey, sizeof rkey, "\"rkey\":\"%s\"", paths[i] + 6);
        snprintf(value, sizeof value, "\"record\":{\"x\":%u}", 24 + i % 100);
        const char *end = strchr(line, '\n'), *a = strstr(line, rkey), *b = strstr(line, value);
        assert_true(a && a < end && b && b < end);
        line = end + 1;
    }
    assert_int_equal(COMMIT(.ops = ops, .nops = MJ_OPS_MAX + 1), MJ_ELIMIT);
    assert_int_equal(frame_out.seq, 77);
    /* The same path twice, far apart. */
    ops[150].path = ops[3].path;
    assert_int_equal(COMMIT(.ops = ops, .nops = MJ_OPS_MAX), MJ_EDUPPATH);
    assert_int_equal(seen.events, 0);
    /* The first of two sections under one CID counts; here it is the wrong one. */
    struct op twice[] = {{"create", "a.b.c/1", record, BAD_HASH},
                         {"create", "a.b.c/2", record, PLAIN}};
    assert_int_equal(COMMIT(.ops = twice, .nops = 2), 0);
    assert_int_equal(seen.drops, 2);
    assert_int_equal(seen.reasons[0], MJ_EHASH);
}

static void test_blocks_limit(void **state)
{
    (void)state;
    uint8_t *big = calloc(1, MJ_RECORD_MAX);
    uint8_t *less = calloc(1, MJ_RECORD_MAX);
    less[0] = 1;
    struct op ops[] = {{"create", "a.b.c/1", {big, MJ_RECORD_MAX}, PLAIN},
                       {"create", "a.b.c/2", {less, 2000000 - MJ_RECORD_MAX - 400}, PLAIN}};
    assert_int_equal(COMMIT(.ops = ops, .nops = 2), 0);
    assert_int_equal(seen.events, 2);
    /* Sharing a block does not get around that. */
    struct op shared[] = {{"create", "a.b.c/1", {big, MJ_RECORD_MAX}, PLAIN},
                          {"create", "a.b.c/2", {big, MJ_RECORD_MAX}, NO_BLOCK},
                          {"create", "a.b.c/3", record, PLAIN}};
    assert_int_equal(COMMIT(.ops = shared, .nops = 3), 0);
    assert_int_equal(seen.events, 2);
    assert_int_equal(seen.reasons[0], MJ_ELIMIT);
    ops[1].block.len += 400;
    assert_int_equal(COMMIT(.ops = ops, .nops = 2), MJ_ELIMIT);
    free(big);
    free(less);
}

static void test_callback_stops(void **state)
{
    (void)state;
    struct op ops[] = {{"create", "a.b.c/1", record, PLAIN}, {"create", "a.b.c/2", record, PLAIN}};
    seen.stop = MJ_ECLOSED;
    assert_int_equal(COMMIT(.ops = ops, .nops = 2), MJ_ECLOSED);
    assert_int_equal(seen.events, 1);
    seen.stop = 0;
    assert_int_equal(COMMIT(.ops = ops, .nops = 2), 0);
    assert_int_equal(seen.events, 2);
}

/* A poisoned frame loses only itself: cut at two thirds, eight bytes inverted at three quarters. */
static void test_poison(void **state)
{
    (void)state;
    MJ_AUTO_BUF frames = {0}, lines = {0};
    if (!mj_test_corpus(&frames))
        skip();
    struct mj_span frame, rest;
    unsigned victims = 0;
    for (int round = 0; round < 2; round++) {
        unsigned victim = 0;
        rest = mj_buf_span(&frames);
        while (mj_test_frame(&rest, &frame)) {
            assert_int_equal(decode(frame), 0);
            if (victim++ % 2 != (unsigned)round)
                continue;
            lines.len = 0;
            mj_buf_put(&lines, seen.json.ptr, seen.json.len);
            assert_int_not_equal(decode(mj_span(frame.ptr, frame.len * 2 / 3)), 0);
            assert_int_equal(seen.events, 0);
            uint8_t *bad = malloc(frame.len);
            memcpy(bad, frame.ptr, frame.len);
            for (size_t i = 0; i < 8; i++)
                bad[frame.len * 3 / 4 + i] ^= 0xff;
            decode(mj_span(bad, frame.len)); /* may hit bytes that this level does not look at */
            free(bad);
            assert_int_equal(decode(frame), 0);
            assert_true(mj_span_eq(mj_buf_span(&seen.json), mj_buf_span(&lines)));
            victims++;
        }
        assert_int_equal(rest.len, 0);
    }
    assert_int_equal(victims, 60);
}

/* Every cut of a frame is refused, and none reads outside. */
static void test_truncated(void **state)
{
    (void)state;
    MJ_AUTO_BUF frame = {0};
    build(&(struct build){.t = "#commit", .ops = one_op, .nops = 1}, &frame);
    for (size_t n = 0; n < frame.len; n++) {
        int err = decode(mj_span(frame.ptr, n));
        if (err == 0 || seen.events)
            fail_msg("%zu of %zu bytes: %d", n, frame.len, err);
    }
}

/* The published relay scenarios: every commit, identity and account gives its events at this
 * level. What they expect to be dropped is dropped for its seq, by whoever keeps the last one. */
static void test_scenarios(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned messages, events;
    } files[] = {{"legacy", 3, 3}, {"post_lifecycle", 6, 8}, {"seq_ordering", 4, 4}};
    for (size_t f = 0; f < MJ_COUNT(files); f++) {
        char path[128];
        MJ_AUTO_BUF text = {0};
        unsigned messages = 0, events = 0;
        snprintf(path, sizeof path, "interop/relay-scenarios/%s.json", files[f].name);
        if (!mj_test_shared(path, &text))
            skip();
        cJSON *json = cJSON_Parse((const char *)text.ptr), *m;
        cJSON_ArrayForEach(m, cJSON_GetObjectItem(json, "messages"))
        {
            MJ_AUTO_BUF frame = {0};
            cJSON *inner = cJSON_GetObjectItem(m, "frame");
            cJSON *body = cJSON_GetObjectItem(inner, "body");
            mj_test_to_cbor(cJSON_GetObjectItem(inner, "header"), &frame);
            mj_test_to_cbor(body, &frame);
            int err = decode(mj_buf_span(&frame));
            if (err || seen.drops)
                fail_msg("%s %u: %s", files[f].name, messages, mj_errlabel(err));
            assert_int_equal(frame_out.seq, (int64_t)cJSON_GetObjectItem(body, "seq")->valuedouble);
            messages++;
            events += seen.events;
        }
        cJSON_Delete(json);
        assert_int_equal(messages, files[f].messages);
        assert_int_equal(events, files[f].events);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),           cmocka_unit_test(test_other_types),
        cmocka_unit_test(test_framing),        cmocka_unit_test(test_commit_dropped),
        cmocka_unit_test(test_op_dropped),     cmocka_unit_test(test_no_hash),
        cmocka_unit_test(test_many_ops),       cmocka_unit_test(test_blocks_limit),
        cmocka_unit_test(test_callback_stops), cmocka_unit_test(test_poison),
        cmocka_unit_test(test_truncated),      cmocka_unit_test(test_scenarios),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
