/* Where labels are kept: what is news, in which order, over restarts, kill -9 and a full disk; and
 * what a query asks for. */
#include "cmocka_all.h"

#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "server/label_query.h"
#include "state/labels.h"

static char dir[64];
static atomic_int made, released;

static int make(struct mj_label_signer *s, const struct mj_label_change *c, struct mj_buf *out)
{
    (void)s;
    atomic_fetch_add(&made, 1);
    if (mj_span_is(c->val, "unsigned"))
        return MJ_ENOMEM;
    mj_buf_printf(out, "%s%.*s %.*s", c->neg ? "-" : "", (int)c->uri.len, (const char *)c->uri.ptr,
                  (int)c->val.len, (const char *)c->val.ptr);
    if (c->cid.len)
        mj_buf_printf(out, " %.*s", (int)c->cid.len, (const char *)c->cid.ptr);
    return 0;
}

static void release(struct mj_label_signer *s)
{
    (void)s;
    atomic_fetch_add(&released, 1);
}

static struct mj_label_signer signer = {make, release};

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/moonjet-labels-XXXXXX");
    assert_non_null(mkdtemp(dir));
    atomic_store(&made, 0);
    atomic_store(&released, 0);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static struct mj_labels *open_labels(const char *where)
{
    MJ_AUTO_BUF error = {0};
    struct mj_labels *l = mj_labels_new(where);
    if (mj_labels_open(l, &error))
        fail_msg("%s", mj_buf_cstr(&error));
    return l;
}

static struct mj_label_change change(const char *uri, const char *val)
{
    return (struct mj_label_change){
        .src = MJ_SPAN("did:web:l"), .uri = mj_str(uri), .val = mj_str(val), .now_us = 1000};
}

static int put(struct mj_labels *l, struct mj_label_change c)
{
    return mj_labels_put(l, &c, &signer);
}

static void say(struct mj_labels *l, const char *uri, const char *val)
{
    assert_int_equal(put(l, change(uri, val)), 0);
}

static void take_back(struct mj_labels *l, const char *uri, const char *val)
{
    struct mj_label_change c = change(uri, val);
    c.neg = true;
    assert_int_equal(put(l, c), 0);
}

static void wait_for(struct mj_labels *l, uint64_t seq)
{
    for (int i = 0; mj_labels_newest(l) < seq && i < 20000; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(mj_labels_newest(l), seq);
}

static bool append(void *ctx, uint64_t seq, struct mj_span label)
{
    mj_buf_printf(ctx, "%llu:%.*s;", (unsigned long long)seq, (int)label.len,
                  (const char *)label.ptr);
    return true;
}

static void assert_log(struct mj_labels *l, uint64_t from, const char *expected)
{
    MJ_AUTO_BUF text = {0};
    assert_int_equal(mj_labels_read(l, from, append, &text), 0);
    assert_string_equal(mj_buf_cstr(&text), expected);
}

static bool append_found(void *ctx, const struct mj_label_found *f)
{
    mj_buf_printf(ctx, "%.*s%s;", (int)f->label.len, (const char *)f->label.ptr, f->neg ? "!" : "");
    return true;
}

static void assert_found(struct mj_labels *l, const char *prefix, const char *expected)
{
    MJ_AUTO_BUF text = {0};
    assert_int_equal(mj_labels_find(l, mj_str(prefix), mj_span(NULL, 0), append_found, &text), 0);
    assert_string_equal(mj_buf_cstr(&text), expected);
}

static void news_only(void **state)
{
    (void)state;
    struct mj_labels *l = open_labels(NULL);
    assert_false(mj_labels_served(l));
    say(l, "b", "x");
    say(l, "b", "x");
    take_back(l, "b", "y");
    take_back(l, "b", "x");
    take_back(l, "b", "x");
    say(l, "a", "x");
    say(l, "b", "x");
    assert_true(mj_labels_served(l));
    assert_log(l, 0, "1:b x;2:-b x;3:a x;4:b x;");
    assert_log(l, 3, "3:a x;4:b x;");
    assert_log(l, 5, "");
    assert_found(l, "", "a x;b x;");
    take_back(l, "b", "x");
    assert_found(l, "b", "-b x!;");
    assert_found(l, "c", "");
    mj_labels_free(l);
    assert_int_equal(atomic_load(&released), 8);
}

static void versions_and_ends(void **state)
{
    (void)state;
    struct mj_labels *l = open_labels(NULL);
    struct mj_label_change c = change("u", "x");
    c.cid = MJ_SPAN("one");
    assert_int_equal(put(l, c), 0);
    c.cid = MJ_SPAN("two");
    assert_int_equal(put(l, c), 0);
    c.src = MJ_SPAN("did:web:other");
    assert_int_equal(put(l, c), 0);
    take_back(l, "u", "x"); /* both versions, of one source */
    assert_log(l, 4, "4:-u x one;5:-u x two;");
    c = change("e", "x");
    c.exp = MJ_SPAN("…");
    c.exp_us = 5000;
    assert_int_equal(put(l, c), 0); /* 6 */
    assert_int_equal(put(l, c), 0);
    c.exp_us = 6000;
    c.slack_us = 1000;
    assert_int_equal(put(l, c), 0); /* near enough */
    c.exp_us = 6001;
    assert_int_equal(put(l, c), 0); /* 7 */
    c.slack_us = 0;
    c.exp_us = 6000;
    assert_int_equal(put(l, c), 0); /* 8: said exactly */
    c.now_us = 6000;
    assert_int_equal(put(l, c), 0); /* 9: over */
    assert_int_equal(mj_labels_newest(l), 9);
    struct mj_label_change never = change("e", "x");
    never.neg = true;
    never.now_us = 7000;
    assert_int_equal(put(l, never), 0);
    assert_int_equal(mj_labels_newest(l), 9);
    mj_labels_free(l);
}

static void refused(void **state)
{
    (void)state;
    char longer[600];
    memset(longer, 'u', sizeof longer);
    struct mj_labels *l = mj_labels_new(NULL);
    assert_int_equal(put(l, change("a", "x")), MJ_ECLOSED);
    assert_found(l, "", "");
    mj_labels_free(l);
    l = open_labels(NULL);
    struct mj_label_change c = change("a", "x");
    c.uri = mj_span(longer, MJ_LABEL_KEY_MAX - 3 - c.src.len - c.val.len);
    assert_int_equal(put(l, c), 0);
    c.uri.len++;
    assert_int_equal(put(l, c), MJ_EBIG);
    say(l, "a", "unsigned"); /* cannot be made: it takes no seq */
    say(l, "b", "x");
    assert_int_equal(mj_labels_newest(l), 2);
    mj_labels_free(l);
    assert_int_equal(atomic_load(&released), 5);
}

static void on_disk(void **state)
{
    (void)state;
    struct mj_labels *l = open_labels(dir);
    mj_labels_begin_at(l, 100);
    assert_int_equal(mj_labels_next(l), 100);
    for (int i = 0; i < 5000; i++) {
        char uri[16];
        snprintf(uri, sizeof uri, "u%04d", i);
        say(l, uri, "x");
    }
    take_back(l, "u0000", "x");
    mj_labels_free(l); /* writes all of it */
    l = open_labels(dir);
    assert_int_equal(mj_labels_newest(l), 5100);
    assert_int_equal(mj_labels_oldest(l), 100);
    mj_labels_begin_at(l, 7); /* is past */
    say(l, "u0001", "x");
    say(l, "u0000", "x");
    wait_for(l, 5101);
    assert_log(l, 5100, "5100:-u0000 x;5101:u0000 x;");
    mj_labels_free(l);
}

/* Whoever reads a seq in the parent finds it again after the child is killed. */
static void kill_9(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (int round = 0; round < 5; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        if (child == 0) {
            struct mj_labels *l = open_labels(dir);
            for (int i = 0;; i++) {
                char uri[32];
                snprintf(uri, sizeof uri, "r%d-%d", round, i);
                put(l, change(uri, "x"));
                uint64_t seq = mj_labels_newest(l);
                if (i % 50 == 0 && write(pipes[1], &seq, sizeof seq) < 0)
                    _exit(1);
            }
        }
        close(pipes[1]);
        uint64_t seq = 0, seen = 0;
        while (seen < last + 200 && read(pipes[0], &seq, sizeof seq) == sizeof seq)
            seen = seq;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(pipes[0], &seq, sizeof seq) == sizeof seq)
            seen = seq;
        close(pipes[0]);
        struct mj_labels *l = open_labels(dir);
        assert_true(mj_labels_newest(l) >= seen);
        last = mj_labels_newest(l);
        mj_labels_free(l);
    }
}

static void full_disk(void **state)
{
    (void)state;
    struct rlimit old, low = {.rlim_cur = 64 << 10};
    signal(SIGXFSZ, SIG_IGN);
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    struct mj_labels *l = open_labels(dir);
    say(l, "first", "x");
    wait_for(l, 1);
    getrlimit(RLIMIT_FSIZE, &old);
    low.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &low);
    for (int i = 0; i < 3000; i++) {
        char uri[200];
        snprintf(uri, sizeof uri, "%0150d", i);
        say(l, uri, "x");
    }
    for (int i = 0; atomic_load(&made) < 3 && i < 20000; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    wait_for(l, 3001); /* nothing is lost, nothing has a number of its own twice */
    mj_labels_free(l);
    mj_log_setup(MJ_LOG_INFO, false);
}

static void assert_query(const char *text, const char *expected)
{
    struct mj_label_query q;
    MJ_AUTO_BUF error = {0};
    MJ_AUTO_BUF shown = {0};
    int err = mj_label_query_parse(mj_str(text), &q, &error);
    assert_int_equal(err, expected ? 0 : MJ_ESYNTAX);
    assert_int_equal(!expected, error.len > 0);
    for (size_t i = 0; !err && i < q.prefix_count; i++) {
        struct mj_span p = q.prefixes[i];
        bool whole = p.len && !p.ptr[p.len - 1];
        mj_buf_printf(&shown, "%.*s%s;", (int)(p.len - whole), (const char *)p.ptr,
                      whole ? "$" : "");
    }
    for (size_t i = 0; !err && i < q.source_count; i++)
        mj_buf_printf(&shown, "from %.*s;", (int)q.sources[i].len, (const char *)q.sources[i].ptr);
    if (!err)
        mj_buf_printf(&shown, "%zu", q.limit);
    if (!err && q.cursor.len)
        mj_buf_printf(&shown, ">%.*s", (int)q.cursor.len, (const char *)q.cursor.ptr);
    if (expected)
        assert_string_equal(mj_buf_cstr(&shown), expected);
    mj_label_query_deinit(&q);
}

static void queries(void **state)
{
    (void)state;
    assert_query("uriPatterns=b&uriPatterns=a", "a$;b$;50");
    assert_query("uriPatterns=did%3Aweb%3Aa&limit=7", "did:web:a$;7");
    assert_query("uriPatterns=ab*&uriPatterns=abc&uriPatterns=abd*&uriPatterns=a", "a$;ab;50");
    assert_query("uriPatterns=*&uriPatterns=a&sources=x&sources=y", ";from x;from y;50");
    assert_query("uriPatterns=*&cursor=6162", ";50>ab");
    assert_query("uriPatterns=*&unknown=%zz", ";50");
    assert_query("", NULL);
    assert_query("uriPatterns=", NULL);
    assert_query("uriPatterns=*&cursor=&sources=", ";from ;50");
    assert_query("uriPatterns=a*b", NULL);
    assert_query("uriPatterns=a%00b", NULL);
    assert_query("uriPatterns=%zz", NULL);
    assert_query("uriPatterns=*&limit=0", NULL);
    assert_query("uriPatterns=*&limit=251", NULL);
    assert_query("uriPatterns=*&limit=x", NULL);
    assert_query("uriPatterns=*&cursor=6", NULL);
    assert_query("uriPatterns=*&cursor=6G", NULL);
    MJ_AUTO_BUF many = {0};
    for (int i = 0; i <= MJ_LABEL_PATTERNS_MAX; i++)
        mj_buf_printf(&many, "uriPatterns=%d&", i);
    assert_query(mj_buf_cstr(&many), NULL);
    bool has;
    uint64_t seq;
    assert_int_equal(mj_label_seq_parse(MJ_SPAN(""), &has, &seq), 0);
    assert_false(has);
    assert_int_equal(mj_label_seq_parse(MJ_SPAN("a=b&cursor=12"), &has, &seq), 0);
    assert_true(has && seq == 12);
    assert_int_equal(mj_label_seq_parse(MJ_SPAN("cursor=-1"), &has, &seq), MJ_ESYNTAX);
    assert_int_equal(mj_label_seq_parse(MJ_SPAN("cursor="), &has, &seq), MJ_ESYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(news_only, setup, teardown),
        cmocka_unit_test_setup_teardown(versions_and_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(refused, setup, teardown),
        cmocka_unit_test_setup_teardown(on_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(kill_9, setup, teardown),
        cmocka_unit_test_setup_teardown(full_disk, setup, teardown),
        cmocka_unit_test(queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
