/* moonjet.lua: what it may say, what it may not, and how it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/err.h"
#include "script/config.h"

struct cfg {
    struct mj_strings sources, proxies;
    const char *listen, *data, *level;
    int64_t retain, bytes, n;
    bool flag;
};

static const struct mj_option options[] = {
    {"source", MJ_OPT_LIST, offsetof(struct cfg, sources), "URL", "…"},
    {"on-future-cursor", MJ_OPT_STR, offsetof(struct cfg, level), "stop|live", "…",
     .group = "source"},
    {"listen", MJ_OPT_STR, offsetof(struct cfg, listen), "HOST:PORT", "…", .group = "listen",
     .key = "stream"},
    {"data", MJ_OPT_STR, offsetof(struct cfg, data), "DIR", "…", .group = "journal", .path = true},
    {"retain", MJ_OPT_TIME, offsetof(struct cfg, retain), "TIME", "…", .group = "journal"},
    {"retain-bytes", MJ_OPT_SIZE, offsetof(struct cfg, bytes), "SIZE", "…", .group = "journal"},
    {"replay-rate", MJ_OPT_INT, offsetof(struct cfg, n), "N", "…", .group = "limits"},
    {"trusted-proxy", MJ_OPT_LIST, offsetof(struct cfg, proxies), "CIDR", "…", .group = "limits"},
    {"flag", MJ_OPT_FLAG, offsetof(struct cfg, flag), NULL, "…", .group = "limits"},
    {0}};

struct fixture {
    char dir[64], path[128];
    struct mj_config config;
    struct mj_buf notes, error;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/moonjet-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/moonjet.lua", f->dir);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", f->dir);
    assert_int_equal(system(command), 0);
    mj_config_deinit(&f->config);
    mj_buf_deinit(&f->notes);
    mj_buf_deinit(&f->error);
    free(f);
    return 0;
}

static void put_file(struct fixture *f, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int try_load(struct fixture *f, const char *text)
{
    mj_config_deinit(&f->config);
    f->notes.len = f->error.len = 0;
    put_file(f, "moonjet.lua", text);
    return mj_config_load(f->path, options, &f->config, &f->notes, &f->error);
}

static void load(struct fixture *f, const char *text)
{
    if (try_load(f, text))
        fail_msg("%s", mj_buf_cstr(&f->error));
}

static void refuse(struct fixture *f, const char *text, const char *why)
{
    assert_int_equal(try_load(f, text), MJ_EINVAL);
    if (!strstr(mj_buf_cstr(&f->error), why))
        fail_msg("expected \"%s\" in \"%s\"", why, mj_buf_cstr(&f->error));
    assert_int_equal(f->config.option_count, 0);
    assert_null(f->config.path);
}

static const char *value(struct fixture *f, const char *name, size_t nth)
{
    for (size_t i = 0; i < f->config.option_count; i++)
        if (strcmp(f->config.options[i].option->name, name) == 0 && nth-- == 0)
            return f->config.options[i].value;
    return NULL;
}

static void options_in_groups(void **state)
{
    struct fixture *f = *state;
    load(f, "source 'wss://a'\n"
            "source 'wss://b' { on_future_cursor = 'live' }\n"
            "listen { stream = ':1' }\n"
            "journal { data = 'var', retain = '36h', retain_bytes = 1024 }\n"
            "limits { replay_rate = 5, trusted_proxy = { '::1', '127.0.0.1' }, flag = true }\n");
    assert_string_equal(value(f, "source", 0), "wss://a");
    assert_string_equal(value(f, "source", 1), "wss://b");
    assert_null(value(f, "source", 2));
    assert_string_equal(value(f, "on-future-cursor", 0), "live");
    assert_string_equal(value(f, "listen", 0), ":1");
    assert_string_equal(value(f, "retain", 0), "36h");
    assert_string_equal(value(f, "retain-bytes", 0), "1024");
    assert_string_equal(value(f, "replay-rate", 0), "5");
    assert_string_equal(value(f, "trusted-proxy", 1), "127.0.0.1");
    assert_string_equal(value(f, "flag", 0), "true");
    char data[128];
    snprintf(data, sizeof data, "%s/var", f->dir);
    assert_string_equal(value(f, "data", 0), data);
    assert_int_equal(f->config.options[3].line, 3);
    load(f, "journal { data = '/abs' }");
    assert_string_equal(value(f, "data", 0), "/abs");
}

static void mistakes_name_line_and_remedy(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"\nlisten { strean = ':1' }", "moonjet.lua:2: listen has no 'strean'; did you mean "
                                       "'stream'? (known: stream)"},
        {"lisen { stream = ':1' }", "moonjet.lua:1: 'lisen' is not defined here; did you mean "
                                    "'listen'? (known: "},
        {"x = 1", "moonjet.lua:1: 'x' is assigned but was never declared; write: local x"},
        {"listen ':1'", "listen wants a table, not string"},
        {"listen { stream = 1 }", "listen.stream wants a text, not number"},
        {"journal { retain = 36 }", "journal.retain wants a text with a unit"},
        {"limits { flag = 1 }", "limits.flag wants true or false, not number"},
        {"limits { replay_rate = '5' }", "limits.replay_rate wants a number, not string"},
        {"limits { replay_rate = 0.5 }", "expected a whole number"},
        {"limits { trusted_proxy = { 1 } }", "limits.trusted_proxy wants a list of texts"},
        {"journal { data = 'a' }\njournal { data = 'b' }",
         "moonjet.lua:2: journal.data is set twice (before in line 1)"},
        {"source {}", "source wants a text, not table"},
        {"source 'x' { on_futur_cursor = 'live' }", "did you mean 'on_future_cursor'?"},
        {"script 'a.lua' { memry = '1M' }", "script has no 'memry'; did you mean 'memory'?"},
        {"script 'a.lua' { memory = '1X' }",
         "moonjet.lua:1: script.memory = \"1X\": syntax error (expected a size such as 64K"},
        {"script 'a.lua' { memory = 5 }", "expected 1M or more"},
        {"script 'a.lua' { call = '1us' }", "script.call = \"1us\": syntax error"},
        {"script 'a.lua' { call = '2h' }", "expected 1ms to 1h"},
        {"script 'a.lua' { lane = 'mine' }",
         "script.lane = \"mine\": expected \"own\" or \"shared\""},
        {"script 'a.lua' { config = 5 }", "script.config wants a table, not number"},
        {"script 'a.lua' { config = { f = print } }", "is not defined here"},
        {"script 'a.lua' { config = { f = pairs } }", "script.config.f holds a function"},
        {"script 'a.lua' { config = { [true] = 1 } }", "script.config has the key true"},
        {"script 'a.lua' { config = { x = 0/0 } }", "holds a number that is none"},
        {"local t = {} t.t = t script 'a.lua' { config = t }", "is nested too deeply"},
        {"script('a.lua', { secrets = {} })",
         "moonjet.lua:1: script takes one text; what is to be said of it stands behind: script "
         "\"a.lua\" { … }"},
        {"source('ws://a', { cursor = 1 })", "source takes one text"},
        {"set('a', { file = 'x' })", "set takes one text"},
        {"script ''", "script \"\" names nothing"},
        {"set 'a' { file = 'x' } set 'a' {}", "set \"a\" is there twice (before in line 1)"},
        {"set 'a' { fil = 'x' }", "did you mean 'file'?"},
        {"jet.from '*'", "'jet' is not defined here"},
        {"require 'x'", "'require' is not defined here"},
        {"os.exit()", "'os' is not defined here"},
        {"env 'MOONJET_NO_SUCH'", "the variable is not set, and no default is given"},
        {"while true do end", "stopped after"},
        {"local s = 'x' while true do s = s .. s end", "not enough memory"},
        {"listen {", "moonjet.lua:1: "},
        {"error({})", "moonjet.lua: an error that is no text"},
        {"listen { stream = 'a\\0b' }", "NUL"},
        {"\033LJ", "is bytecode"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        refuse(f, cases[i].text, cases[i].why);
    mj_config_deinit(&f->config);
    f->error.len = 0;
    assert_int_equal(mj_config_load("/tmp/no/such.lua", options, &f->config, &f->notes, &f->error),
                     MJ_EIO);
    assert_string_equal(mj_buf_cstr(&f->error), "such.lua: No such file or directory");
}

static void scripts_by_pattern(void **state)
{
    struct fixture *f = *state;
    char path[128], scripts[128];
    snprintf(scripts, sizeof scripts, "%s/scripts", f->dir);
    assert_int_equal(mkdir(scripts, 0700), 0);
    put_file(f, "scripts/b.lua", "");
    put_file(f, "scripts/a.lua", "");
    put_file(f, "scripts/a_spec.lua", "");
    load(f, "script 'scripts/*.lua' { memory = '2M', call = '10ms', config = { n = 1 } }\n"
            "script 'scripts/b.lua' { memory = '4M', secrets = { 'PW' }, on_error = 'pass',\n"
            "  config = { s = 'q\"\\n', list = { 1, 2.5, 'x' }, ['end'] = false, o = {} } }\n"
            "script 'scripts/no*.lua'\n"
            "script 'c.lua' { lane = 'own', lag = 'skip', http_allow = {} }\n");
    assert_int_equal(f->config.script_count, 3);
    const struct mj_config_script *a = f->config.scripts[0], *b = f->config.scripts[1],
                                  *c = f->config.scripts[2];
    snprintf(path, sizeof path, "%s/scripts/a.lua", f->dir);
    assert_string_equal(a->path, path);
    assert_int_equal(a->cfg.memory, 2 << 20);
    assert_int_equal(a->cfg.call_us, 10000);
    assert_string_equal(a->cfg.config_lua, "{ n = 1 }");
    assert_false(a->has_secrets);
    assert_int_equal(b->cfg.memory, 4 << 20);
    assert_int_equal(b->cfg.call_us, 10000);
    assert_int_equal(b->cfg.on_error, MJ_ON_ERROR_PASS);
    assert_string_equal(b->cfg.config_lua, "{ [\"end\"] = false, list = { 1, 2.5, \"x\" }, o = {}, "
                                           "s = \"q\\\"\\n\" }");
    assert_true(b->has_secrets);
    assert_int_equal(b->secrets.n, 1);
    assert_int_equal(c->lane, MJ_LANE_OWN);
    assert_int_equal(c->lag, MJ_LAG_SKIP);
    assert_true(c->has_http_allow);
    assert_int_equal(c->http_allow.n, 0);
    assert_string_equal(mj_buf_cstr(&f->notes),
                        "moonjet.lua:4: no script matches scripts/no*.lua\n");
    /* The command line finds the file's entry, however it writes the path. */
    snprintf(path, sizeof path, "%s/scripts/../scripts/b.lua", f->dir);
    assert_ptr_equal(mj_config_script(&f->config, path), b);
    assert_int_equal(mj_config_script(&f->config, "new.lua")->line, 0);
    assert_int_equal(f->config.script_count, 4);
}

/* Signs of patterns in the folder's name are none, and a backslash takes one as it is. */
static void paths_with_signs_of_patterns(void **state)
{
    struct fixture *f = *state;
    char path[128];
    strcat(f->dir, "/[a]");
    assert_int_equal(mkdir(f->dir, 0700), 0);
    snprintf(f->path, sizeof f->path, "%s/moonjet.lua", f->dir);
    put_file(f, "x*.lua", "");
    put_file(f, "xa.lua", "");
    load(f, "script 'x?.lua' script 'x\\\\*.lua' script 'none*.lua'");
    assert_int_equal(f->config.script_count, 2);
    snprintf(path, sizeof path, "%s/xa.lua", f->dir);
    assert_string_equal(f->config.scripts[1]->path, path);
    load(f, "script 'x\\\\*.lua'");
    assert_int_equal(f->config.script_count, 1);
    snprintf(path, sizeof path, "%s/x*.lua", f->dir);
    assert_string_equal(f->config.scripts[0]->path, path);
    *strrchr(f->dir, '/') = 0;
}

static void printed_entries_read_back(void **state)
{
    struct fixture *f = *state;
    static const char *const text =
        "script 's.lua' { memory = '3M', call = '1500ms', slow = '1m', lane = 'own',\n"
        "  secrets = { 'A', 'B' }, http_allow = { 'x.example' }, on_error = 'drop',\n"
        "  config = { a = { b = 'c' } } }\n"
        "set 'v' { file = 'v.txt', members = { 'did:a:b' } }\nset 'w' {}\n";
    struct mj_buf first = {0}, second = {0};
    load(f, text);
    for (int round = 0; round < 2; round++) {
        struct mj_buf *out = round ? &second : &first;
        mj_config_print_script(f->config.scripts[0], out);
        for (size_t i = 0; i < f->config.set_count; i++)
            mj_config_print_set(&f->config.sets[i], out);
        if (!round)
            load(f, mj_buf_cstr(&first));
    }
    assert_string_equal(mj_buf_cstr(&first), mj_buf_cstr(&second));
    assert_non_null(strstr(mj_buf_cstr(&first), "call = \"1500ms\""));
    assert_non_null(strstr(mj_buf_cstr(&first), "secrets = { \"A\", \"B\" }"));
    mj_buf_deinit(&first);
    mj_buf_deinit(&second);
}

static void env_reads_the_environment(void **state)
{
    struct fixture *f = *state;
    setenv("MOONJET_TEST_PORT", ":77", 1);
    load(f, "listen { stream = env 'MOONJET_TEST_PORT' }\n"
            "journal { data = env('MOONJET_NO_SUCH', '/d') }");
    assert_string_equal(value(f, "listen", 0), ":77");
    assert_string_equal(value(f, "data", 0), "/d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(options_in_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(mistakes_name_line_and_remedy, setup, teardown),
        cmocka_unit_test_setup_teardown(scripts_by_pattern, setup, teardown),
        cmocka_unit_test_setup_teardown(paths_with_signs_of_patterns, setup, teardown),
        cmocka_unit_test_setup_teardown(printed_entries_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(env_reads_the_environment, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
