/* jet.secret: where it looks, what it refuses, and that no log line shows one. */
#include <unistd.h>

#include "script/secrets.h"
#include "unit/script_fixture.h"

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    fixture_open(*state);
    setenv("MOONJET_SECRET_ENV_ONE", "from the environment", 1);
    unsetenv("CREDENTIALS_DIRECTORY");
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

static void looks_in_three_places(void **state)
{
    struct fixture *f = *state;
    fixture_file(f, "FILE_ONE", "from a file\r\n");
    fixture_file(f, "ENV_ONE", "not this");
    f->cfg.secrets_dir = f->dir;
    fixture_load(f, "assert(jet.secret 'ENV_ONE' == 'from the environment')\n"
                    "assert(jet.secret 'FILE_ONE' == 'from a file')");
    f->cfg.secrets_dir = NULL;
    setenv("CREDENTIALS_DIRECTORY", f->dir, 1);
    fixture_load(f, "assert(jet.secret 'FILE_ONE' == 'from a file')");
    static const struct mj_strings given = {.v = {"FILE_ONE=given=this"}, .n = 1};
    f->cfg.secret_values = &given;
    fixture_load(f, "assert(jet.secret 'FILE_ONE' == 'given=this')");
    fixture_refuse(f, "jet.secret 'ENV_ONE'", "secret 'ENV_ONE' is not to be had");
}

static void refuses_with_words(void **state)
{
    struct fixture *f = *state;
    fixture_refuse(f, "\njet.secret 'NO_SUCH'",
                   "s1.lua:2: secret 'NO_SUCH' is not to be had: set MOONJET_SECRET_NO_SUCH, or "
                   "put it into a file NO_SUCH in --secrets DIR");
    fixture_refuse(f, "jet.secret '../x'", "'../x' cannot name a secret");
    fixture_refuse(f, "jet.secret ''", "cannot name a secret");
    fixture_file(f, "EMPTY", "\n");
    f->cfg.secrets_dir = f->dir;
    fixture_refuse(f, "jet.secret 'EMPTY'", "secret 'EMPTY' is empty");
    f->cfg.secrets_dir = "/";
    fixture_refuse(f, "jet.secret 'tmp'", "/tmp: Invalid argument");
    char *big = malloc(MJ_SECRET_MAX + 2);
    memset(big, 'x', MJ_SECRET_MAX + 1);
    big[MJ_SECRET_MAX + 1] = 0;
    fixture_file(f, "BIG", big);
    free(big);
    f->cfg.secrets_dir = f->dir;
    fixture_refuse(f, "jet.secret 'BIG'", "too long for a secret");
    static const struct mj_strings grants = {.v = {"OTHER"}, .n = 1};
    f->cfg.secrets = &grants;
    fixture_refuse(f, "jet.secret 'ENV_ONE'",
                   "is not granted to this script: add it to its "
                   "secrets = { … } in the configuration file");
}

static void only_while_loading(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':where(function() return jet.secret 'ENV_ONE' end)"
                    ":to(jet.stream 'x')");
    fixture_post(f, "x");
    assert_int_equal(fixture_count(f, "x"), 0);
}

static void no_log_line_shows_one(void **state)
{
    struct fixture *f = *state;
    int fds[2], saved = dup(2);
    assert_int_equal(pipe(fds), 0);
    fflush(stderr);
    dup2(fds[1], 2);
    fixture_load(f, "local s = jet.secret 'ENV_ONE'\n"
                    "jet.log.info('a %s b %s', s, s)\n"
                    "jet.from '*':where(function() error('bad ' .. s) end):to(jet.stream 'x')\n"
                    "jet.from '*':tap(function() error(s .. ':1: worse', 0) end)");
    fixture_post(f, "x");
    dup2(saved, 2);
    close(saved);
    close(fds[1]);
    char text[4096];
    ssize_t n = read(fds[0], text, sizeof text - 1);
    close(fds[0]);
    assert_true(n > 0);
    text[n] = 0;
    assert_non_null(strstr(text, "info s1.lua: a *** b ***\n"));
    assert_non_null(strstr(text, "where#1: bad ***; at://"));
    assert_non_null(strstr(text, "***:1 tap#1: worse; at://"));
    assert_null(strstr(text, "environment"));
}

static void hiding(void **state)
{
    (void)state;
    struct mj_secret *list = NULL;
    MJ_AUTO_BUF out = {0};
    mj_secret_remember(&list, MJ_SPAN("abcd"));
    mj_secret_remember(&list, MJ_SPAN("abcdef"));
    mj_secret_remember(&list, MJ_SPAN("abcd"));
    mj_secret_remember(&list, MJ_SPAN("no"));
    assert_true(mj_span_is(mj_secrets_hide(list, MJ_SPAN("no abc"), &out), "no abc"));
    assert_true(mj_span_is(mj_secrets_hide(list, MJ_SPAN("abcdefg abcd"), &out), "***g ***"));
    assert_true(mj_span_is(mj_secrets_hide(list, MJ_SPAN(""), &out), ""));
    assert_null(list->next->next);
    mj_secret_forget(&list, MJ_SPAN("abcde"));
    mj_secret_forget(&list, MJ_SPAN("abcdef"));
    assert_true(mj_span_is(mj_secrets_hide(list, MJ_SPAN("abcdefg abcd"), &out), "***efg ***"));
    mj_secret_forget(&list, MJ_SPAN("abcd"));
    assert_null(list);
    mj_secret_remember(&list, MJ_SPAN("one\n\"two\""));
    assert_true(mj_span_is(mj_secrets_hide(list, MJ_SPAN("{\"k\":\"one\\n\\\"two\\\"\"}"), &out),
                           "{\"k\":\"***\"}"));
    assert_true(mj_span_is(mj_secrets_hide(list, MJ_SPAN("one\n\"two\"."), &out), "***."));
    mj_secrets_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(looks_in_three_places, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_with_words, setup, teardown),
        cmocka_unit_test_setup_teardown(only_while_loading, setup, teardown),
        cmocka_unit_test_setup_teardown(no_log_line_shows_one, setup, teardown),
        cmocka_unit_test(hiding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
