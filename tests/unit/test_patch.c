/* Paths and patches: an edit changes what it says and not one byte more. */
#include <stdio.h>

#include "cmocka_all.h"

#include "atproto/cid.h"
#include "base/err.h"
#include "event/patch.h"
#include "unit/cbor_text.h"

static struct mj_path path(const char *text)
{
    struct mj_path p = {.count = 0};
    if (mj_path_parse(&p, mj_str(text)))
        fail_msg("bad path %s", text);
    return p;
}

static void paths(void **state)
{
    (void)state;
    struct mj_path p = {.count = 0};
    assert_int_equal(mj_path_parse(&p, MJ_SPAN("embed.images[2].alt")), 0);
    assert_int_equal(p.count, 4);
    assert_true(mj_span_is(p.steps[1].key, "images"));
    assert_int_equal(p.steps[2].index, 2);
    assert_null(p.steps[2].key.ptr);
    p.count = 0;
    assert_int_equal(mj_path_parse(&p, MJ_SPAN("langs.10")), 0);
    assert_int_equal(p.steps[1].index, 10);
    assert_true(mj_span_is(p.steps[1].key, "10"));
    static const char *const bad[] = {".",     "a.",    ".a",   "a..b",  "a[0]",           "a[",
                                      "a[x]",  "a[1]b", "a[]",  "a[-1]", "a[99999999999]", "a[1",
                                      "a[01]", "a.b.",  "a[ 1]"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++) {
        p.count = 0;
        if (mj_path_parse(&p, mj_str(bad[i])) != MJ_ESYNTAX)
            fail_msg("%s", bad[i]);
    }
    MJ_AUTO_BUF deep = {0};
    for (int i = 0; i < MJ_PATH_MAX; i++)
        mj_buf_puts(&deep, i ? ".a" : "a");
    p.count = 0;
    assert_int_equal(mj_path_parse(&p, mj_buf_span(&deep)), 0);
    mj_buf_puts(&deep, ".a");
    p.count = 0;
    assert_int_equal(mj_path_parse(&p, mj_buf_span(&deep)), MJ_ELIMIT);
}

static void find(void **state)
{
    (void)state;
    MJ_AUTO_BUF b = {0};
    struct mj_span record = cbor_text(&b, "{1:\"one\",a:[5,{b:\"deep\"}]}"), v;
    struct mj_path p = path("a[2].b");
    assert_int_equal(mj_path_find(record, &p, &v), 0);
    assert_memory_equal(mj_cbor_item(v).ptr,
                        "\x64"
                        "deep",
                        5);
    p = path("a.2.b");
    assert_int_equal(mj_path_find(record, &p, &v), 0);
    p = path("1"); /* a number is a key in a map */
    assert_int_equal(mj_path_find(record, &p, &v), 0);
    p = path("a[3]");
    assert_int_equal(mj_path_find(record, &p, &v), MJ_ENOENT);
    p = path("a.b");
    assert_int_equal(mj_path_find(record, &p, &v), MJ_ENOENT);
    p = path("a[1].x");
    assert_int_equal(mj_path_find(record, &p, &v), MJ_ETYPE);
}

/* before ──edit──▶ after, compared as bytes. `value` NULL unsets. */
static void edits(void **state)
{
    (void)state;
    static const struct {
        const char *before, *path, *value, *after;
        int err;
    } cases[] = {
        {"{text:\"hi\"}", "text", "\"hello\"", "{text:\"hello\"}", 0},
        {"{b:1,aa:2}", "a", "0", "{a:0,b:1,aa:2}", 0},
        {"{b:1,aa:2}", "c", "0", "{b:1,c:0,aa:2}", 0},
        {"{b:1,aa:2}", "ab", "0", "{b:1,aa:2,ab:0}", 0},
        {"{}", "a", "{}", "{a:{}}", 0},
        {"{a:{b:{c:1}},d:[]}", "a.b.c", "[]", "{a:{b:{c:[]}},d:[]}", 0},
        {"{a:{b:{c:1}}}", "a.b.c", NULL, "{a:{b:{}}}", 0},
        {"{a:1,b:[1,~,2],c:{}}", "a", NULL, "{b:[1,~,2],c:{}}", 0},
        {"{a:1}", "b", NULL, "{a:1}", 0},
        {"{a:1}", "b.c", NULL, "{a:1}", 0},
        {"{a:[1,2,3]}", "a[2]", "\"x\"", "{a:[1,\"x\",3]}", 0},
        {"{a:[1,2,3]}", "a[1]", NULL, "{a:[2,3]}", 0},
        {"{a:[1,2,3]}", "a[3]", NULL, "{a:[1,2]}", 0},
        {"{a:[1,2,3]}", "a[4]", "4", "{a:[1,2,3,4]}", 0},
        {"{a:[1,2,3]}", "a[4]", NULL, "{a:[1,2,3]}", 0},
        {"{a:[1,2,3]}", "a[9]", NULL, "{a:[1,2,3]}", 0},
        {"{a:[1,2,3]}", "a[5]", "4", NULL, MJ_ENOENT},
        {"{a:[1,2,3]}", "a.x", "4", NULL, MJ_ENOENT},
        {"{a:1}", "a.b", "4", NULL, MJ_ETYPE},
        {"{a:1}", "b.c", "4", NULL, MJ_ENOENT},
        {"{a:1,b:9007199254740993,c:[]}", "", "{z:1}", "{z:1}", 0},
        {"{a:1}", "", NULL, NULL, MJ_EINVAL},
    };
    struct mj_patch p = {0};
    MJ_AUTO_BUF before = {0}, value = {0}, after = {0};
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct mj_span record = cbor_text(&before, cases[i].before);
        struct mj_path at = path(cases[i].path);
        mj_patch_begin(&p, record);
        int err = cases[i].value ? mj_patch_set(&p, &at, cbor_text(&value, cases[i].value))
                                 : mj_patch_unset(&p, &at);
        if (err != cases[i].err)
            fail_msg("case %zu: %s", i, mj_strerror(err));
        struct mj_span want = cbor_text(&after, cases[i].after ? cases[i].after : cases[i].before);
        if (!mj_span_eq(p.record, want))
            fail_msg("case %zu: other bytes than expected", i);
    }
    mj_patch_deinit(&p);
}

/* Counts grow a byte at 24 and 256: the heads before them must move everything right. */
static void heads_that_grow(void **state)
{
    (void)state;
    struct mj_patch p = {0};
    MJ_AUTO_BUF record = {0}, value = {0};
    mj_patch_begin(&p, cbor_text(&record, "{a:[],b:\"after\"}"));
    for (int i = 1; i <= 300; i++) {
        struct mj_path at = path("a");
        mj_path_add_index(&at, (uint32_t)i);
        assert_int_equal(mj_patch_set(&p, &at, cbor_text(&value, "7")), 0);
        assert_int_equal(mj_cbor_check(p.record), 0);
    }
    for (int i = 300; i >= 1; i--) {
        struct mj_path at = path("a[1]");
        assert_int_equal(mj_patch_unset(&p, &at), 0);
        assert_int_equal(mj_cbor_check(p.record), 0);
    }
    assert_true(mj_span_eq(p.record, mj_buf_span(&record)));
    char key[8];
    for (int i = 0; i < 300; i++) { /* in an order that is not the canonical one */
        snprintf(key, sizeof key, "k%d", i * 7 % 300);
        struct mj_path at = path(key);
        assert_int_equal(mj_patch_set(&p, &at, cbor_text(&value, "~")), 0);
        assert_int_equal(mj_cbor_check(p.record), 0);
    }
    mj_patch_deinit(&p);
}

static void a_value_may_come_from_the_record_itself(void **state)
{
    (void)state;
    struct mj_patch p = {0};
    MJ_AUTO_BUF record = {0}, want = {0};
    mj_patch_begin(&p, cbor_text(&record, "{a:{b:[1,2]}}"));
    struct mj_path from = path("a.b"), to = path("c");
    for (int i = 0; i < 2; i++) { /* from the event's bytes, then from the patch's own */
        struct mj_span v;
        assert_int_equal(mj_path_find(p.record, &from, &v), 0);
        assert_int_equal(mj_patch_set(&p, &to, mj_cbor_item(v)), 0);
        to = path("d");
    }
    assert_true(mj_span_eq(p.record, cbor_text(&want, "{a:{b:[1,2]},c:[1,2],d:[1,2]}")));
    mj_patch_deinit(&p);
}

static void limits(void **state)
{
    (void)state;
    struct mj_patch p = {0};
    MJ_AUTO_BUF record = {0}, value = {0}, big = {0};
    mj_patch_begin(&p, cbor_text(&record, "{a:1}"));
    mj_buf_reserve(&big, MJ_PATCH_RECORD_MAX);
    memset(big.ptr, 'x', MJ_PATCH_RECORD_MAX);
    mj_cbor_put_text(&value, mj_span(big.ptr, MJ_PATCH_RECORD_MAX));
    struct mj_path at = path("a");
    assert_int_equal(mj_patch_set(&p, &at, mj_buf_span(&value)), MJ_ELIMIT);
    value.len = 0;
    for (int i = 1; i < MJ_CBOR_DEPTH_MAX; i++)
        mj_cbor_put_array(&value, 1);
    mj_cbor_put_array(&value, 0);
    assert_int_equal(mj_patch_set(&p, &at, mj_buf_span(&value)), MJ_EDEPTH);
    assert_false(mj_patch_changed(&p));
    assert_true(mj_span_eq(p.record, mj_buf_span(&record)));
    /* The deepest that is allowed is one the reader takes. */
    value.len = 0;
    for (int i = 1; i < MJ_CBOR_DEPTH_MAX - 2; i++)
        mj_cbor_put_array(&value, 1);
    mj_cbor_put_array(&value, 0);
    assert_int_equal(mj_patch_set(&p, &at, mj_buf_span(&value)), 0);
    assert_int_equal(mj_cbor_check(p.record), 0);
    mj_patch_deinit(&p);
}

static void the_cid_goes_with_the_record(void **state)
{
    (void)state;
    struct mj_patch p = {0};
    MJ_AUTO_BUF record = {0}, value = {0};
    struct mj_cid cid;
    struct mj_event ev = {.kind = MJ_KIND_COMMIT, .op = MJ_OP_CREATE}, out;
    ev.record = cbor_text(&record, "{a:1}");
    mj_cid_of(ev.record, &cid);
    ev.cid = mj_span(cid.bytes, MJ_CID_LEN);
    struct mj_path at = path("a");

    mj_patch_begin(&p, ev.record);
    mj_patch_event(&p, &ev, &out);
    assert_true(mj_span_eq(out.cid, ev.cid));
    mj_patch_set(&p, &at, cbor_text(&value, "2"));
    mj_patch_event(&p, &ev, &out);
    assert_int_equal(out.cid.len, 0);
    assert_true(mj_span_eq(out.record, p.record));
    p.keep_cid = true;
    mj_patch_event(&p, &ev, &out);
    assert_true(mj_span_eq(out.cid, ev.cid));
    mj_patch_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths),
        cmocka_unit_test(find),
        cmocka_unit_test(edits),
        cmocka_unit_test(heads_that_grow),
        cmocka_unit_test(a_value_may_come_from_the_record_itself),
        cmocka_unit_test(limits),
        cmocka_unit_test(the_cid_goes_with_the_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
