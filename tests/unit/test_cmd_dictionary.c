/* moonjet dictionary: what is installed where, that a bad file changes nothing, and how events are
 * sampled to train from. */
#include "support/zdict.h"

#include <fcntl.h>

#include "cli/cmd_dictionary.c"
#include "cli/dictionary_train.c"

static char dir[] = "/tmp/moonjet-cmddict-XXXXXX";

static const char *in_dir(const char *name)
{
    static char paths[256][128];
    static unsigned next;
    char *p = paths[next++ % 256];
    snprintf(p, 128, "%s/%s", dir, name);
    return p;
}

static void write_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Runs the command; its exit status, and stdout in *out, stderr in *err. */
static int run(struct mj_buf *out, struct mj_buf *err, int argc, const char *const *args)
{
    char *argv[16] = {"dictionary"};
    int fds[2], saved[2];
    struct mj_buf *to[2] = {out, err};
    fflush(stdout);
    for (int i = 0; i < argc; i++)
        argv[i + 1] = (char *)args[i];
    for (int i = 0; i < 2; i++) {
        saved[i] = dup(i + 1);
        fds[i] = open(in_dir(i ? "err" : "out"), O_RDWR | O_CREAT | O_TRUNC, 0600);
        dup2(fds[i], i + 1);
    }
    int status = mj_cmd_dictionary.main(&mj_cmd_dictionary, argc + 1, argv);
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        dup2(saved[i], i + 1);
        close(saved[i]);
        lseek(fds[i], 0, SEEK_SET);
        to[i]->len = 0;
        mj_buf_reserve(to[i], 1 << 16);
        ssize_t n = read(fds[i], to[i]->ptr, (1 << 16) - 1);
        to[i]->len = n > 0 ? (size_t)n : 0;
        mj_buf_cstr(to[i]);
        close(fds[i]);
    }
    return status;
}

#define RUN(status, says_out, says_err, ...)                                                       \
    do {                                                                                           \
        const char *const args_[] = {__VA_ARGS__};                                                 \
        MJ_AUTO_BUF out_ = {0}, err_ = {0};                                                        \
        int got_ = run(&out_, &err_, (int)MJ_COUNT(args_), args_);                                 \
        if (got_ != (status) || !strstr((char *)out_.ptr, says_out) ||                             \
            !strstr((char *)err_.ptr, says_err))                                                   \
            fail_msg("exit %d: %s%s", got_, (char *)out_.ptr, (char *)err_.ptr);                   \
    } while (0)

static void test_install(void **state)
{
    (void)state;
    MJ_AUTO_BUF dict = {0};
    const char *good = in_dir("good"), *bad = in_dir("bad"), *data = in_dir("data");
    make_dictionary(&dict, 4711);
    write_file(good, dict.ptr, dict.len);
    write_file(bad, "{}", 2);
    RUN(MJ_EXIT_OK, "id         4711\n", "starts again", "install", good, "--data", data);
    struct stat st;
    const char *there = in_dir("data/zstd_dictionary");
    assert_int_equal(stat(there, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(st.st_size, dict.len);
    RUN(MJ_EXIT_FAILED, "", "not a zstd dictionary", "install", bad, "--data", data);
    RUN(MJ_EXIT_OK, "id         4711\n", "", "show", "--data", data);
    RUN(MJ_EXIT_OK, "jetstream  no", "", "show", good);
    RUN(MJ_EXIT_FAILED, "", "not a zstd dictionary", "show", bad);
    RUN(MJ_EXIT_FAILED, "", "No such file", "show", "/nowhere/dict");
    /* Not into a directory whose parent's parent is missing; and nothing half-written stays. */
    RUN(MJ_EXIT_FAILED, "", "No such file", "install", good, "--data", in_dir("a/b/c/d"));
    make_dictionary(&dict, MJ_DICTIONARY_JETSTREAM_ID);
    write_file(good, dict.ptr, dict.len);
    RUN(MJ_EXIT_OK, "jetstream  NO, although", "", "install", good, "--data", data);
    write_file(there, "x", 1);
    RUN(MJ_EXIT_FAILED, "", "not a zstd dictionary", "show", "--data", data);
    RUN(MJ_EXIT_USAGE, "", "did you mean 'install'", "instal", good);
    RUN(MJ_EXIT_USAGE, "", "VERB", "");
}

static void test_sampling(void **state)
{
    (void)state;
    struct sampler s = {.budget = 100000, .every = 1};
    char event[64];
    for (int i = 0; i < 100000; i++) {
        snprintf(event, sizeof event, "%-20d", i);
        sampler_add(&s, mj_span(event, 20));
        assert_true(s.kept.bytes.len <= s.budget);
    }
    assert_true(s.kept.bytes.len > s.budget / 2 - 100);
    assert_int_equal(s.seen, 100000);
    for (size_t i = 0; i < s.kept.count; i++) /* evenly, over all of it */
        assert_int_equal(atoi((char *)s.kept.bytes.ptr + 20 * i), (int)(i * s.every));
    assert_true(s.kept.count * s.every > 100000 - s.every);
    samples_deinit(&s.kept);
}

static void test_jsonl(void **state)
{
    (void)state;
    MJ_AUTO_BUF text = {0}, error = {0};
    const char *path = in_dir("lines");
    mj_buf_puts(&text, "one\n\ntwo\n");
    mj_buf_reserve(&text, LINE_BYTES + 2);
    memset(text.ptr + text.len, 'x', LINE_BYTES + 1); /* too long: passed over */
    text.len += LINE_BYTES + 1;
    mj_buf_puts(&text, "\nthree\nfour without an end");
    write_file(path, text.ptr, text.len);
    struct sampler s = {.budget = 1 << 20, .every = 1};
    struct train_cfg c = {.jsonl = path, .events = 100};
    assert_int_equal(read_jsonl(&c, &s, &error), 0);
    assert_true(mj_span_is(mj_buf_span(&s.kept.bytes), "onetwothreefour without an end"));
    samples_deinit(&s.kept);
    s = (struct sampler){.budget = 1 << 20, .every = 1};
    c.events = 2;
    assert_int_equal(read_jsonl(&c, &s, &error), 0);
    assert_true(mj_span_is(mj_buf_span(&s.kept.bytes), "onetwo"));
    samples_deinit(&s.kept);
    c.jsonl = "/nowhere/lines";
    assert_int_equal(read_jsonl(&c, &s, &error), MJ_EIO);
}

static void test_train(void **state)
{
    (void)state;
    MJ_AUTO_BUF text = {0};
    const char *lines = in_dir("lines"), *out = in_dir("trained");
    for (int i = 0; i < 3000; i++)
        mj_buf_printf(&text, "{\"did\":\"did:plc:%d\",\"time_us\":%d,\"kind\":\"commit\"}\n",
                      i * 7919, i * 1237);
    write_file(lines, text.ptr, text.len);
    RUN(MJ_EXIT_OK, "id         99\n", "", "train", "--jsonl", lines, "--out", out, "--size", "2K",
        "--id", "99");
    RUN(MJ_EXIT_OK, "id         99\n", "", "show", out);
    RUN(MJ_EXIT_USAGE, "", "Jetstream's clients", "train", "--jsonl", lines, "--out", out, "--id",
        "1612007021");
    RUN(MJ_EXIT_USAGE, "", "--out FILE", "train", "--jsonl", lines);
    RUN(MJ_EXIT_USAGE, "", "--data DIR", "train", "--out", out);
    RUN(MJ_EXIT_USAGE, "", "--size", "train", "--jsonl", lines, "--out", out, "--size", "10");
    RUN(MJ_EXIT_FAILED, "", "/nowhere", "train", "--jsonl", lines, "--out", "/nowhere/x");
    RUN(MJ_EXIT_FAILED, "", "journal", "train", "--data", in_dir("none"), "--out", out);
    write_file(lines, text.ptr, 2000);
    RUN(MJ_EXIT_FAILED, "", "only ", "train", "--jsonl", lines, "--out", out);
    RUN(MJ_EXIT_OK, "id         99\n", "", "show", out); /* what was there stays */
}

int main(void)
{
    unsetenv("JETSTREAM_DATA_DIR");
    assert_non_null(mkdtemp(dir));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_install),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_jsonl),
        cmocka_unit_test(test_train),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    static const char *const files[] = {
        "good", "bad", "out", "err", "lines", "trained", "data/zstd_dictionary", "data"};
    for (size_t i = 0; i < MJ_COUNT(files); i++)
        remove(in_dir(files[i]));
    rmdir(dir);
    return failed;
}
