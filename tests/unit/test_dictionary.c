/* Dictionary files: what is taken, what is refused and why, where they are looked for. And messages
 * that are one zstd frame: what is decoded, and that nothing else is, nor more than was allowed. */
#include "cmocka_all.h"

#include "base/dictionary.c"
#include "shared.h"
#include "support/zdict.h"

static void write_file(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void expect_refusal(const char *path, int err, const char *says)
{
    struct mj_dictionary d;
    MJ_AUTO_BUF error = {0};
    assert_int_equal(mj_dictionary_load(path, &d, &error), err);
    assert_null(d.bytes.ptr);
    assert_non_null(strstr(mj_buf_cstr(&error), path));
    if (!strstr(mj_buf_cstr(&error), says))
        fail_msg("'%s' does not say '%s'", mj_buf_cstr(&error), says);
}

static void test_load(void **state)
{
    (void)state;
    char dir[] = "/tmp/moonjet-dict-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/d", dir);
    MJ_AUTO_BUF dict = {0}, error = {0};
    make_dictionary(&dict, 77);

    write_file(path, dict.ptr, dict.len);
    struct mj_dictionary d;
    assert_int_equal(mj_dictionary_load(path, &d, &error), 0);
    assert_int_equal(d.id, 77);
    assert_string_equal(d.path, path);
    assert_true(mj_span_eq(mj_buf_span(&d.bytes), mj_buf_span(&dict)));
    mj_dictionary_deinit(&d);

    expect_refusal("/nowhere/at/all", MJ_EIO, "No such file");
    expect_refusal(dir, MJ_EIO, "not a file");
    write_file(path, "", 0);
    expect_refusal(path, MJ_ETYPE, "not a zstd dictionary");
    write_file(path, "{\"json\":true}", 13);
    expect_refusal(path, MJ_ETYPE, "not a zstd dictionary");
    write_file(path, dict.ptr, 60); /* cut inside its tables */
    expect_refusal(path, MJ_ESYNTAX, "damaged");
    dict.ptr[9] ^= 0xff;
    write_file(path, dict.ptr, dict.len);
    expect_refusal(path, MJ_ESYNTAX, "damaged");
    dict.ptr[9] ^= 0xff;
    memset(dict.ptr + 4, 0, 4);
    write_file(path, dict.ptr, dict.len);
    expect_refusal(path, MJ_EINVAL, "without an id");

    dict.ptr[4] = 1;
    write_file(path, dict.ptr, dict.len);
    assert_int_equal(truncate(path, MJ_DICTIONARY_BYTES + 1), 0);
    expect_refusal(path, MJ_EBIG, "larger than 16 MiB");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refusal(path, MJ_EIO, "not a file");
    unlink(path);
    rmdir(dir);
}

static void expect_places(const char *exe, const char *data, const char *want)
{
    char *places[MJ_DICTIONARY_PLACES];
    MJ_AUTO_BUF got = {0};
    size_t n = places_of(exe, data, places);
    for (size_t i = 0; i < n; i++) {
        mj_buf_printf(&got, "%s%s", i ? " " : "", places[i]);
        free(places[i]);
    }
    assert_string_equal(mj_buf_cstr(&got), want);
}

static void test_places(void **state)
{
    (void)state;
    expect_places("/usr/local/bin/moonjet", "/var/lib/moonjet",
                  "/var/lib/moonjet/zstd_dictionary /usr/local/share/moonjet/zstd_dictionary");
    expect_places("/usr/bin/moonjet", NULL, "/usr/share/moonjet/zstd_dictionary");
    expect_places("/bin/moonjet", "", "/share/moonjet/zstd_dictionary");
    expect_places("/home/a/moonjet/build/release/moonjet", NULL,
                  "/home/a/moonjet/build/zstd_dictionary "
                  "/home/a/moonjet/build/share/moonjet/zstd_dictionary");
    expect_places("/rebuild/dev/moonjet", NULL, "/rebuild/share/moonjet/zstd_dictionary");
    expect_places("", NULL, "");
    expect_places("/moonjet", "d", "d/zstd_dictionary");
}

static void test_find(void **state)
{
    (void)state;
    char dir[] = "/tmp/moonjet-dict-XXXXXX", path[64], named[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/zstd_dictionary", dir);
    snprintf(named, sizeof named, "%s/other", dir);
    MJ_AUTO_BUF dict = {0}, error = {0};
    struct mj_dictionary d;
    make_dictionary(&dict, 1);
    write_file(path, dict.ptr, dict.len);
    make_dictionary(&dict, 2);
    write_file(named, dict.ptr, dict.len);

    assert_int_equal(mj_dictionary_find(NULL, dir, &d, &error), 0);
    assert_int_equal(d.id, 1);
    mj_dictionary_deinit(&d);
    assert_int_equal(mj_dictionary_find(named, dir, &d, &error), 0);
    assert_int_equal(d.id, 2);
    mj_dictionary_deinit(&d);
    assert_int_equal(error.len, 0);

    /* A default that is there but no good is not passed over in silence. */
    write_file(path, "rubbish", 7);
    assert_int_equal(mj_dictionary_find("", dir, &d, &error), MJ_ETYPE);
    assert_non_null(strstr(mj_buf_cstr(&error), path));
    /* A named one that is missing is an error, a default one is not. */
    error.len = 0;
    unlink(named);
    assert_int_equal(mj_dictionary_find(named, dir, &d, &error), MJ_EIO);
    assert_true(error.len > 0);
    error.len = 0;
    unlink(path);
    int err = mj_dictionary_find(NULL, dir, &d, &error);
    assert_true(err == MJ_ENOENT || err == 0); /* the build directory may hold one */
    assert_int_equal(error.len, 0);
    mj_dictionary_deinit(&d);
    rmdir(dir);
}

static void test_decode(void **state)
{
    (void)state;
    MJ_AUTO_BUF dict = {0}, other = {0}, packed = {0}, text = {0};
    make_dictionary(&dict, 77);
    make_dictionary(&other, 78);
    struct mj_span out, none = {0}, with = mj_buf_span(&dict);
    struct mj_zmessage *z = mj_zmessage_new(with, 10000);
    assert_non_null(z);
    for (size_t n = 0; n <= 10000; n = n ? n * 3 : 1) {
        text.len = 0;
        for (size_t i = 0; i < n; i++)
            mj_buf_putc(&text, (char)('a' + i * i % 13));
        for (int i = 0; i < 4; i++) {
            pack(&packed, mj_buf_span(&text), i & 1 ? with : none, i & 2);
            assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), 0);
            assert_true(mj_span_eq(out, mj_buf_span(&text)));
        }
    }
    struct mj_span hello = MJ_SPAN("{\"did\":\"did:plc:x\",\"time_us\":1}");
    pack(&packed, hello, with, true);
    assert_int_equal(mj_zmessage_wants(mj_buf_span(&packed)), 77);
    for (size_t cut = 0; cut < packed.len; cut++)
        assert_int_equal(mj_zmessage_decode(z, mj_span(packed.ptr, cut), &out), MJ_ESYNTAX);
    packed.ptr[packed.len - 1] ^= 1;
    assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), MJ_EHASH);
    packed.ptr[packed.len - 1] ^= 1;
    mj_buf_putc(&packed, 0); /* something behind the frame */
    assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), MJ_ESYNTAX);
    packed.len--;
    mj_buf_put(&packed, packed.ptr, packed.len); /* two frames */
    assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), MJ_ESYNTAX);
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'};
    assert_int_equal(mj_zmessage_decode(z, mj_span(skippable, sizeof skippable), &out), MJ_ESYNTAX);
    pack(&packed, hello, mj_buf_span(&other), true);
    assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), MJ_EMISMATCH);
    assert_int_equal(mj_zmessage_wants(mj_buf_span(&packed)), 78);
    mj_zmessage_free(z);

    z = mj_zmessage_new(none, 10000);
    pack(&packed, hello, with, true);
    assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), MJ_EMISMATCH);
    pack(&packed, hello, none, false);
    assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), 0);
    mj_zmessage_free(z);
}

/* A bomb: 64 MiB of zeros in a few KB, with and without its size said. */
static void test_limit(void **state)
{
    (void)state;
    MJ_AUTO_BUF zeros = {0}, packed = {0};
    mj_buf_reserve(&zeros, 64u << 20);
    memset(zeros.ptr, 0, 64u << 20);
    struct mj_span out, none = {0};
    struct mj_zmessage *z = mj_zmessage_new(none, 1u << 20);
    for (int say = 0; say < 2; say++) {
        pack(&packed, mj_span(zeros.ptr, 64u << 20), none, say);
        assert_true(packed.len < 100000);
        assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), MJ_EBIG);
        pack(&packed, mj_span(zeros.ptr, 1u << 20), none, say);
        assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), 0);
        assert_int_equal(out.len, 1u << 20);
        pack(&packed, mj_span(zeros.ptr, (1u << 20) + 1), none, say);
        assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), MJ_EBIG);
    }
    assert_true(z->out.cap <= 2u << 20);
    pack(&packed, MJ_SPAN("small"), none, true);
    assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), 0);
    assert_true(z->out.cap <= KEEP_BYTES); /* one large message does not stay */
    mj_zmessage_free(z);
}

/* The dictionary that Jetstream's clients carry, where the shared data is. */
static void test_jetstream(void **state)
{
    (void)state;
    struct mj_dictionary d;
    MJ_AUTO_BUF file = {0}, error = {0}, packed = {0};
    if (!mj_test_shared("zstd/legacy_subscribe.zdict", &file))
        return;
    assert_int_equal(mj_dictionary_load(MJ_SHARED "zstd/legacy_subscribe.zdict", &d, &error), 0);
    char hex[65];
    mj_sha256_hex(mj_buf_span(&d.bytes), hex);
    assert_string_equal(hex, MJ_DICTIONARY_JETSTREAM_SHA256);
    assert_int_equal(d.id, MJ_DICTIONARY_JETSTREAM_ID);
    struct mj_zmessage *z = mj_zmessage_new(mj_buf_span(&d.bytes), 1000);
    struct mj_span out, text = MJ_SPAN("{\"did\":\"did:plc:x\",\"time_us\":1}");
    pack(&packed, text, mj_buf_span(&d.bytes), false);
    assert_int_equal(mj_zmessage_decode(z, mj_buf_span(&packed), &out), 0);
    assert_true(mj_span_eq(out, text));
    mj_zmessage_free(z);
    mj_dictionary_deinit(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),  cmocka_unit_test(test_places),
        cmocka_unit_test(test_find),  cmocka_unit_test(test_decode),
        cmocka_unit_test(test_limit), cmocka_unit_test(test_jetstream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
