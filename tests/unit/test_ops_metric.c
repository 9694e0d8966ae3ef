/* consumer_ops_processed_total: per kind and collection, and bounded however many collections
 * strangers invent. */
#include "cmocka_all.h"

#include <stdio.h>

#include "base/metrics.h"
#include "flow/router.h"

static void count(struct mj_router *r, const char *collection, enum mj_op op)
{
    struct mj_event ev = {.kind = MJ_KIND_COMMIT,
                          .op = op,
                          .seq = 1,
                          .did = MJ_SPAN("did:web:a.example"),
                          .collection = mj_str(collection),
                          .rkey = MJ_SPAN("self"),
                          .rev = MJ_SPAN("3l3qo2vuowo2b")};
    assert_int_equal(mj_router_event(r, &ev), 0);
}

static size_t occurrences(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void bounded(void **state)
{
    (void)state;
    struct mj_journal *t = mj_journal_in_memory(1 << 20);
    struct mj_router *r = mj_router_new(t);
    char name[64];
    for (int i = 0; i < 3; i++)
        count(r, "com.example.first", MJ_OP_DELETE);
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "com.example.n%d", i);
        count(r, name, MJ_OP_DELETE);
    }
    MJ_AUTO_BUF text = {0};
    mj_metrics_render(&text);
    const char *all = mj_buf_cstr(&text);
    assert_non_null(strstr(all, "\nconsumer_ops_processed_total{kind=\"delete\",op_path="
                                "\"com.example.first\"} 3\n"));
    assert_non_null(strstr(all, "\nconsumer_ops_processed_total{kind=\"delete\",op_path="
                                "\"other\"} 4501\n"));
    assert_int_equal(occurrences(all, "\nconsumer_ops_processed_total{"), 501);
    mj_router_free(r);
    mj_journal_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
