/* Random edits of random records. Whatever the edits: the record stays valid DRISL, what an edit
 * did not name stays byte for byte, and what it set is found again.
 *
 * Input: the record's length (two bytes), the record, then edits: a byte of steps, a selector per
 * step, a byte that says what to set. Selectors choose among what is there, so that edits hit. */
#include "atproto/cbor.h"
#include "base/err.h"
#include "event/patch.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

struct input {
    const uint8_t *p, *end;
};

static uint8_t byte(struct input *in) { return in->p < in->end ? *in->p++ : 0; }

/* Appends a step to a child of the container at `at`, or to a place where one may be added. */
static struct mj_span choose(struct mj_path *path, struct mj_span at, uint8_t selector)
{
    struct mj_cbor c = mj_cbor(at);
    struct mj_cbor_head head, key;
    static const char *const fresh[] = {"", "a", "zz", "text", "a key of more than twenty-four"};
    if (mj_cbor_next(&c, &head))
        return mj_span(NULL, 0);
    uint64_t n = selector & 7 ? selector % (head.n + 1) : head.n;
    if (head.type == MJ_CBOR_ARRAY) {
        mj_path_add_index(path, (uint32_t)n + 1);
        for (uint64_t i = 0; i < n && i < head.n; i++)
            mj_cbor_skip(&c);
        return n < head.n ? mj_span(c.p, (size_t)(c.end - c.p)) : mj_span(NULL, 0);
    }
    if (head.type == MJ_CBOR_MAP && n < head.n) {
        for (uint64_t i = 0; i < 2 * n; i++)
            mj_cbor_skip(&c);
        mj_cbor_next(&c, &key);
        mj_path_add_key(path, key.s);
        return mj_span(c.p, (size_t)(c.end - c.p));
    }
    mj_path_add_key(path, mj_str(fresh[selector % 5]));
    return mj_span(NULL, 0);
}

static void make_value(struct mj_buf *b, uint8_t kind, struct mj_span record)
{
    b->len = 0;
    switch (kind % 6) {
    case 0:
        mj_cbor_put_int(b, INT64_MIN + kind);
        break;
    case 1:
        mj_cbor_put_text(b, MJ_SPAN("twenty-five characters ok"));
        break;
    case 2:
        mj_cbor_put_null(b);
        break;
    case 3:
        mj_cbor_put_array(b, 2);
        mj_cbor_put_map(b, 0);
        mj_cbor_put_bool(b, true);
        break;
    case 4:
        mj_cbor_put_map(b, 1);
        mj_cbor_put_text(b, MJ_SPAN("k"));
        mj_cbor_put_bytes(b, MJ_SPAN("\x00\xff"));
        break;
    default:
        mj_buf_put(b, record.ptr, record.len);
        break;
    }
}

/* All items on the way to `path` and beside it: those of `before` that the edit did not name must
 * be in `after`, in the same order, with the same bytes. */
static void compare(struct mj_span before, struct mj_span after, const struct mj_path *path,
                    unsigned step, bool set)
{
    struct mj_cbor a = mj_cbor(before), b = mj_cbor(after);
    struct mj_cbor_head ha, hb, key;
    CHECK(!mj_cbor_next(&a, &ha) && !mj_cbor_next(&b, &hb) && ha.type == hb.type);
    bool is_map = ha.type == MJ_CBOR_MAP, last = step + 1 == path->count;
    const struct mj_step *s = &path->steps[step];
    uint64_t kept = 0;
    bool found = false;
    for (uint64_t i = 0; i < ha.n; i++) {
        struct mj_span name = {NULL, 0};
        if (is_map) {
            CHECK(!mj_cbor_next(&a, &key));
            name = key.s;
        }
        struct mj_span va = mj_cbor_item(mj_span(a.p, (size_t)(a.end - a.p)));
        bool named = is_map ? mj_span_eq(name, s->key) : i + 1 == s->index;
        a.p += va.len;
        if (named)
            found = true;
        if (named && last && !set)
            continue;
        kept++;
        /* A new key may stand before this one. */
        for (;;) {
            if (is_map)
                CHECK(!mj_cbor_next(&b, &key));
            struct mj_span vb = mj_cbor_item(mj_span(b.p, (size_t)(b.end - b.p)));
            CHECK(vb.len);
            b.p += vb.len;
            if (is_map && set && last && !mj_span_eq(key.s, name)) {
                CHECK(mj_span_eq(key.s, s->key));
                continue;
            }
            CHECK(!is_map || mj_span_eq(key.s, name));
            if (named && !last)
                compare(va, vb, path, step + 1, set);
            else if (!named)
                CHECK(mj_span_eq(va, vb));
            break;
        }
    }
    CHECK(hb.n == kept + (set && last && !found));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    size_t len = byte(&in);
    len |= (size_t)byte(&in) << 8;
    if (len > (size_t)(in.end - in.p))
        len = (size_t)(in.end - in.p);
    struct mj_span record = mj_span(in.p, len), found;
    in.p += len;
    if (mj_cbor_check(record) || (record.ptr[0] & 0xe0) != 0xa0)
        return 0;
    struct mj_patch patch = {0};
    struct mj_buf value = {0}, before = {0};
    mj_patch_begin(&patch, record);
    for (int edits = 0; edits < 16 && in.p < in.end; edits++) {
        struct mj_path path = {.count = 0};
        struct mj_span at = patch.record;
        unsigned steps = 1 + byte(&in) % 6;
        for (unsigned i = 0; i < steps && at.ptr; i++)
            at = choose(&path, at, byte(&in));
        uint8_t kind = byte(&in);
        before.len = 0;
        mj_buf_put(&before, patch.record.ptr, patch.record.len);
        bool set = kind & 128;
        make_value(&value, kind, patch.record);
        if (!path.count)
            continue;
        unsigned version = patch.version;
        int err =
            set ? mj_patch_set(&patch, &path, mj_buf_span(&value)) : mj_patch_unset(&patch, &path);
        if (err || patch.version == version) {
            CHECK(mj_span_eq(patch.record, mj_buf_span(&before)));
            continue;
        }
        CHECK(mj_cbor_check(patch.record) == 0);
        /* The path's keys point into the record before the edit, which is still there: in the input
         * or in the patch's other buffer. */
        compare(mj_buf_span(&before), patch.record, &path, 0, set);
        err = mj_path_find(patch.record, &path, &found);
        if (set)
            CHECK(!err && mj_span_eq(mj_cbor_item(found), mj_buf_span(&value)));
    }
    mj_patch_deinit(&patch);
    mj_buf_deinit(&value);
    mj_buf_deinit(&before);
    return 0;
}
