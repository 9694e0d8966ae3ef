/* libcbor as a second opinion, on valid input only: the same tree comes out of random values of our
 * writer, of values libcbor wrote, and of every record of the corpus. cbor_load() belongs in tests;
 * nothing that reads the network may call it. */
#include "cmocka_all.h"

#include <cbor.h>

#include "atproto/cbor.h"
#include "atproto/cid.h"
#include "event/decode.h"
#include "frames.h"

static uint64_t seed;
static uint32_t rnd(uint32_t n) /* below n */
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % n);
}

/* The item at c has the same type, value and children as `item`. Consumes it. */
static void same(struct mj_cbor *c, const cbor_item_t *item)
{
    struct mj_cbor_head h;
    assert_int_equal(mj_cbor_next(c, &h), 0);
    switch (h.type) {
    case MJ_CBOR_INT:
        assert_true(h.i >= 0 ? cbor_isa_uint(item) : cbor_isa_negint(item));
        assert_true(cbor_get_int(item) == (uint64_t)(h.i >= 0 ? h.i : -1 - h.i));
        break;
    case MJ_CBOR_BYTES:
        assert_true(cbor_isa_bytestring(item) && cbor_bytestring_is_definite(item));
        assert_int_equal(cbor_bytestring_length(item), h.s.len);
        if (h.s.len)
            assert_memory_equal(cbor_bytestring_handle(item), h.s.ptr, h.s.len);
        break;
    case MJ_CBOR_TEXT:
        assert_true(cbor_isa_string(item) && cbor_string_is_definite(item));
        assert_int_equal(cbor_string_length(item), h.s.len);
        if (h.s.len)
            assert_memory_equal(cbor_string_handle(item), h.s.ptr, h.s.len);
        break;
    case MJ_CBOR_ARRAY:
        assert_true(cbor_isa_array(item) && cbor_array_is_definite(item));
        assert_int_equal(cbor_array_size(item), h.n);
        for (size_t i = 0; i < h.n; i++)
            same(c, cbor_array_handle(item)[i]);
        break;
    case MJ_CBOR_MAP:
        assert_true(cbor_isa_map(item) && cbor_map_is_definite(item));
        assert_int_equal(cbor_map_size(item), h.n);
        for (size_t i = 0; i < h.n; i++) {
            same(c, cbor_map_handle(item)[i].key);
            same(c, cbor_map_handle(item)[i].value);
        }
        break;
    case MJ_CBOR_LINK: {
        assert_true(cbor_isa_tag(item));
        assert_int_equal(cbor_tag_value(item), 42);
        cbor_item_t *bytes = cbor_tag_item(item);
        assert_int_equal(cbor_bytestring_length(bytes), h.s.len + 1);
        assert_memory_equal(cbor_bytestring_handle(bytes) + 1, h.s.ptr, h.s.len);
        cbor_decref(&bytes);
        break;
    }
    case MJ_CBOR_BOOL:
        assert_true(cbor_isa_float_ctrl(item) && cbor_is_bool(item));
        assert_int_equal(cbor_get_bool(item), h.i);
        break;
    case MJ_CBOR_NULL:
        assert_true(cbor_is_null(item));
        break;
    }
}

static void same_tree(struct mj_span in)
{
    struct cbor_load_result result;
    assert_int_equal(mj_cbor_check(in), 0);
    cbor_item_t *item = cbor_load(in.ptr, in.len, &result);
    assert_non_null(item);
    assert_int_equal(result.read, in.len);
    struct mj_cbor c = mj_cbor(in);
    same(&c, item);
    assert_ptr_equal(c.p, c.end);
    /* libcbor writes heads in the width it read, which was the shortest. */
    unsigned char *again = NULL;
    size_t cap, n = cbor_serialize_alloc(item, &again, &cap);
    assert_int_equal(n, in.len);
    assert_memory_equal(again, in.ptr, n);
    free(again);
    cbor_decref(&item);
}

static int64_t random_int(void)
{
    uint64_t v = (uint64_t)rnd(UINT32_MAX) << 32 | rnd(UINT32_MAX);
    int64_t i = (int64_t)(v >> 1 >> rnd(63));
    return rnd(2) ? i : -1 - i;
}

/* Text of n characters, of all four widths. */
static void random_text(struct mj_buf *out, uint32_t n)
{
    static const char *const other[] = {"\xc3\xa9", "\xe2\x80\xa8", "\xf0\x9f\x98\x80", "\n", "\""};
    out->len = 0;
    while (n--) {
        if (rnd(8))
            mj_buf_putc(out, (char)(' ' + rnd(95)));
        else
            mj_buf_puts(out, other[rnd(5)]);
    }
}

static void random_value(struct mj_buf *out, unsigned depth)
{
    MJ_AUTO_BUF text = {0};
    struct mj_cid cid;
    uint32_t n = rnd(6);
    switch (rnd(depth ? 9 : 7)) {
    case 0:
    case 1:
        mj_cbor_put_int(out, random_int());
        break;
    case 2:
        random_text(&text, rnd(rnd(20) ? 40 : 3000));
        mj_cbor_put_text(out, mj_buf_span(&text));
        break;
    case 3:
        random_text(&text, rnd(rnd(20) ? 40 : 70000));
        mj_cbor_put_bytes(out, mj_buf_span(&text));
        break;
    case 4:
        mj_cid_of(mj_span(&seed, sizeof seed), &cid);
        mj_cbor_put_link(out, mj_span(cid.bytes, MJ_CID_LEN));
        break;
    case 5:
        mj_cbor_put_bool(out, rnd(2));
        break;
    case 6:
        mj_cbor_put_null(out);
        break;
    case 7:
        n = rnd(30) ? n : 300;
        mj_cbor_put_array(out, n);
        while (n--)
            random_value(out, depth - 1);
        break;
    default:
        mj_cbor_put_map(out, n);
        for (uint32_t i = 0; i < n; i++) { /* i characters, so ascending by length */
            uint8_t key[8];
            for (uint32_t k = 0; k < i; k++)
                key[k] = (uint8_t)('a' + rnd(26));
            mj_cbor_put_text(out, mj_span(key, i));
            random_value(out, depth - 1);
        }
    }
}

static void test_random(void **state)
{
    (void)state;
    MJ_AUTO_BUF b = {0};
    size_t bytes = 0;
    for (seed = 1; seed < 1000; seed++) {
        uint64_t start = seed;
        b.len = 0;
        random_value(&b, 6);
        same_tree(mj_buf_span(&b));
        bytes += b.len;
        seed = start;
    }
    print_message("%zu bytes of random values\n", bytes);
    assert_true(bytes > 500000);
}

/* The other way round: libcbor writes, our reader reads. */
static void test_written_by_libcbor(void **state)
{
    (void)state;
    cbor_item_t *map = cbor_new_definite_map(3), *list = cbor_new_definite_array(2);
    bool ok = cbor_array_push(list, cbor_move(cbor_build_uint8(200))) &&
              cbor_array_push(list, cbor_move(cbor_build_negint64(5000000000u)));
    ok = ok &&
         cbor_map_add(map, (struct cbor_pair){cbor_move(cbor_build_string("a")), cbor_move(list)});
    ok = ok && cbor_map_add(map, (struct cbor_pair){cbor_move(cbor_build_string("b")),
                                                    cbor_move(cbor_new_null())});
    ok = ok && cbor_map_add(map, (struct cbor_pair){cbor_move(cbor_build_string("cc")),
                                                    cbor_move(cbor_build_bool(true))});
    assert_true(ok);
    unsigned char *bytes = NULL;
    size_t cap, n = cbor_serialize_alloc(map, &bytes, &cap);
    assert_int_equal(mj_cbor_check(mj_span(bytes, n)), 0);
    struct mj_cbor c = mj_cbor(mj_span(bytes, n));
    same(&c, map);
    assert_ptr_equal(c.p, c.end);
    free(bytes);
    cbor_decref(&map);
}

static int on_event(void *ctx, struct mj_event *ev)
{
    if (ev->record.len) {
        same_tree(ev->record);
        ++*(unsigned *)ctx;
    }
    return 0;
}

static void test_corpus(void **state)
{
    (void)state;
    MJ_AUTO_BUF frames = {0};
    if (!mj_test_corpus(&frames))
        skip();
    struct mj_decoder *d = mj_decoder_new();
    struct mj_span rest = mj_buf_span(&frames), frame;
    struct mj_frame out;
    unsigned records = 0;
    while (mj_test_frame(&rest, &frame))
        assert_int_equal(mj_decode(d, frame, &out, on_event, &records), 0);
    mj_decoder_free(d);
    assert_int_equal(records, 61);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_written_by_libcbor),
        cmocka_unit_test(test_corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
