/* What is typed at the prompt: values and errors, the script's locals, events, limits. */
#include <pthread.h>
#include <stdio.h>

#include "unit/cbor_text.h"
#include "unit/script_fixture.h"

#include "script/repl.h"

struct desk {
    struct fixture f; /* for its folder, and for a router with scripts */
    struct mj_repl *repl;
    struct mj_buf out;
};

static int setup(void **state)
{
    struct desk *d = mj_calloc(1, sizeof *d);
    fixture_open(&d->f);
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    struct desk *d = *state;
    mj_repl_free(d->repl);
    fixture_close(&d->f);
    mj_buf_deinit(&d->out);
    free(d);
    return 0;
}

/* A session in a script of that text (NULL: none), over posts with those texts. */
static void open_desk(struct desk *d, const char *script, const char *const *posts, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/s.lua", d->f.dir);
    if (script)
        fixture_file(&d->f, "s.lua", script);
    struct mj_kept **events = mj_calloc(n ? n : 1, sizeof *events);
    for (size_t i = 0; i < n; i++) {
        struct mj_event ev = fixture_commit(&d->f, "app.bsky.feed.post", MJ_OP_CREATE,
                                            cbor_text(&d->f.record, posts[i]));
        events[i] = mj_kept_new(&ev);
    }
    MJ_AUTO_BUF error = {0};
    d->repl = mj_repl_new(script ? path : NULL, NULL, events, n, &error);
    if (!d->repl)
        fail_msg("%s", mj_buf_cstr(&error));
}

static const char *type(struct desk *d, const char *code, int want)
{
    d->out.len = 0;
    int result = mj_repl_eval(d->repl, mj_str(code), &d->out);
    if (result != want)
        fail_msg("%s: %s, not %s\n%s", code, mj_strerror(result), mj_strerror(want),
                 mj_buf_cstr(&d->out));
    return mj_buf_cstr(&d->out);
}

static void says(struct desk *d, const char *code, const char *want)
{
    const char *got = type(d, code, 0);
    if (strcmp(got, want) != 0)
        fail_msg("%s: \"%s\", not \"%s\"", code, got, want);
}

static void fails(struct desk *d, const char *code, const char *part)
{
    const char *got = type(d, code, MJ_EINVAL);
    if (!strstr(got, part))
        fail_msg("%s: expected \"%s\" in \"%s\"", code, part, got);
}

static void values(void **state)
{
    struct desk *d = *state;
    open_desk(d, NULL, NULL, 0);
    says(d, "1 + 1", "2\n");
    says(d, "=1 + 1", "2\n");
    says(d, "1, nil, 'a', {}", "1\nnil\n\"a\"\n{}\n");
    says(d, "_ + 1", "2\n");
    says(d, "", "");
    says(d, "  \n", "");
    says(d, "x = 5", "");
    says(d, "x", "5\n");
    says(d, "x = nil", "");
    says(d, "x", "nil\n");
    says(d, "local y = 6", "");
    says(d, "local function double(n) return 2 * n end", "");
    says(d, "double(y)", "12\n");
    says(d, "for i = 1, 2 do print(i, {} == {}) end", "1\tfalse\n2\tfalse\n");
    says(d, "{ b = 2, a = 1, ['not a name'] = { 1, 2 }, [3] = 4 }",
         "{ [3] = 4, a = 1, b = 2, [\"not a name\"] = { 1, 2 } }\n");
    says(d, "jet.null, 0/0, 1/0, -1/0, 0.1, 2^53, 1e300, print ~= nil",
         "jet.null\n0/0\nmath.huge\n-math.huge\n0.1\n9007199254740992\n1e+300\ntrue\n");
    says(d, "{ time_us = 1783175887517000 }, -2^53",
         "{ time_us = 1783175887517000 }\n-9007199254740992\n");
    says(d, "'tab\\t nul\\0001 \\27[31m é \\200 \\195\\40 \\194\\155'",
         "\"tab\\t nul\\0001 \\027[31m é \\200 \\195( \\194\\155\"\n");
    says(d, "t = {} t.t = t return t", "{ t = <this table again> }\n");
    says(d, "function() end", "<function>\n");
    says(d, "coroutine.create(print)", "<coroutine>\n");
}

static void more_lines(void **state)
{
    struct desk *d = *state;
    open_desk(d, NULL, NULL, 0);
    assert_string_equal(type(d, "function f(a)", MJ_ETRUNC), "");
    assert_string_equal(type(d, "x = {", MJ_ETRUNC), "");
    assert_string_equal(type(d, "1 +", MJ_ETRUNC), "");
    says(d, "function f(a)\n return a end", "");
    says(d, "f(3)", "3\n");
}

static void errors(void **state)
{
    struct desk *d = *state;
    open_desk(d, NULL, NULL, 0);
    fails(d, "nosuch", "global 'nosuch' is not defined");
    fails(d, "1 2", "repl:1: ");
    fails(d, "do error 'x' end", "repl:1: x\n");
    fails(d, "error { code = 1 }", "{ code = 1 }\n");
    fails(d, "local x = nil\nreturn x.y", "repl:2: attempt to index global 'x'");
    fails(d, "jet.from '*'", "draws the graph");
    fails(d, "jet.sleep '1s'", "jet.sleep");
    fails(d, "next(1)", "bad argument");
    fails(d, "setmetatable({}, nil).x.y", "attempt to index");
    fails(d, "\033Lua", "wrong mode");
    /* Large output is cut, and said to be. */
    const char *out = type(d, "for i = 1, 2e4 do print(('x'):rep(100)) end", 0);
    assert_non_null(strstr(out, "more than can be shown"));
    assert_true(d->out.len < MJ_REPL_TEXT_MAX + 100);
    out = type(d, "('x'):rep(3e6)", 0);
    assert_true(d->out.len < MJ_REPL_TEXT_MAX + 100);
    fails(d, "local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end",
          "not enough memory");
    fails(d, "local function f() return 1 + f() end f()", "stack overflow");
    says(d, "1", "1\n");
}

static const char script[] =
    "local words = { 'moon' }\n"
    "local limit = 3\n"
    "local function has(text) return text:find(words[1], 1, true) and #text > limit end\n"
    "jet.from '*':where(function(ev) return has(ev.text) end):to(jet.stream 'moon')\n"
    "jet.main():map(function(d) if d.text == 'edit' then d.record.text = 'x' end return d end)\n";

static void locals(void **state)
{
    struct desk *d = *state;
    open_desk(d, script, NULL, 0);
    says(d, "words", "{ \"moon\" }\n");
    says(d, "has 'a moon'", "true\n");
    says(d, "limit = 10", "");
    says(d, "has 'a moon'", "false\n");
    says(d, "limit", "10\n");
    says(d, "words[1] = 'sun' return has 'the midday sun'", "true\n");
}

static void events(void **state)
{
    static const char *const posts[] = {"{text:\"a moon\"}", "{text:\"edit\"}", "{text:\"moon\"}"};
    struct desk *d = *state;
    open_desk(d, script, posts, 3);
    says(d, "ev.text", "\"a moon\"\n");
    says(d, "ev.record", "{ text = \"a moon\" }\n");
    assert_non_null(strstr(type(d, "ev", 0), "record = { text = \"a moon\" }"));
    assert_non_null(strstr(type(d, "next()", 0), "event 2 of 3: create at://"));
    says(d, "ev.text", "\"edit\"\n");
    fails(d, "next(2)", "the last event is in hand");
    fails(d, "next(-2)", "the first event is in hand");
    type(d, "next(-1)", 0);
    says(d, "find(function(ev) return #ev.text == 4 end) return ev.text",
         "event 2 of 3: create at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/"
         "3kgmi5fzxhc2l \"edit\"\n\"edit\"\n");
    says(d, "find 'app.bsky.feed.like'", "nothing further on\n");
    fails(d, "find { colection = 'x' }", "colection");
    says(d, "ev.text", "\"edit\"\n");
    assert_non_null(
        strstr(type(d, "try(has and function(ev) return has(ev.text) end)", 0), "\"a moon\"\n"));
    assert_non_null(strstr(mj_buf_cstr(&d->out), "2 of 3 events\n"));
    assert_non_null(strstr(type(d, "try '*'", 0), "3 of 3 events\n"));
    assert_non_null(strstr(type(d, "try('#identity', has)", 0), "0 of 3 events\n"));
    assert_non_null(strstr(type(d, "try(function(ev) return ev.record.a.b end)", 0),
                           "3 errors, the first: repl:1: attempt to index field 'a'"));
    says(d, "send()", "→ main, edited\n");
    type(d, "next(-1)", 0);
    says(d, "send()", "→ main\n→ moon\n");
    /* A part of a record is no longer good when another event is in hand. */
    type(d, "r = ev.record", 0);
    type(d, "kept = ev.record.x or ev", 0);
    type(d, "next()", 0);
    says(d, "r.text", "\"edit\"\n");
}

static void limits(void **state)
{
    static const char *const posts[] = {"{text:\"a\"}", "{text:\"b\"}"};
    struct desk *d = *state;
    open_desk(d, NULL, posts, 2);
    assert_non_null(
        strstr(type(d, "try(function(ev) while ev.text == 'a' do end return true end)", 0),
               "1 of 2 events\n1 errors, the first: repl:1: stopped after 50 ms"));
    fails(d, "find(function() while true do end end)", "stopped after 50 ms");
    says(d, "1", "1\n");
    /* What filled the heap is let go of before the next line. */
    fails(d, "local t = {} while true do t[#t + 1] = {} end", "not enough memory");
    says(d, "1", "1\n");
}

static void *interrupt(void *repl)
{
    /* Until it has worked: the call may not have begun yet. */
    for (int i = 0; i < 2000; i++) {
        struct timespec t = {.tv_nsec = 1000000};
        nanosleep(&t, NULL);
        mj_repl_interrupt(repl);
    }
    return NULL;
}

static void interrupted(void **state)
{
    struct desk *d = *state;
    open_desk(d, NULL, NULL, 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, interrupt, d->repl), 0);
    assert_string_equal(type(d, "while true do end", MJ_EINVAL), "stopped\n");
    pthread_join(thread, NULL);
    says(d, "1", "1\n");
}

static void collect(void *ctx, const char *word)
{
    mj_buf_puts(ctx, word);
    mj_buf_putc(ctx, ' ');
}

static void completes(struct desk *d, const char *text, const char *want)
{
    d->out.len = 0;
    mj_repl_complete(d->repl, text, collect, &d->out);
    assert_string_equal(mj_buf_cstr(&d->out), want);
}

static void completion(void **state)
{
    static const char *const posts[] = {"{text:\"a\"}"};
    struct desk *d = *state;
    open_desk(d, script, posts, 1);
    completes(d, "jet.st", "jet.stream ");
    completes(d, "print(jet.log.w", "jet.log.warn ");
    completes(d, "wor", "words ");
    completes(d, "string.re", "string.rep string.reverse ");
    completes(d, "ev.lan", "ev.langs ");
    completes(d, "ev:men", "ev:mentions ");
    completes(d, "nosuch.x", "");
}

/* A live process: by the script's name, with its own limits, and no strikes. */
static void live(void **state)
{
    struct desk *d = *state;
    fixture_file(&d->f, "s.lua", script);
    char path[128];
    snprintf(path, sizeof path, "%s/s.lua", d->f.dir);
    d->f.cfg.call_us = 50000;
    assert_int_equal(mj_scripts_load(d->f.scripts, path, &d->f.cfg, &d->f.error), 0);
    assert_int_equal(mj_scripts_eval(d->f.scripts, "s", MJ_SPAN("words"), &d->out), 0);
    assert_int_equal(mj_scripts_eval(d->f.scripts, "s.lua", MJ_SPAN("limit = 0"), &d->out), 0);
    assert_int_equal(mj_scripts_eval(d->f.scripts, NULL, MJ_SPAN("limit"), &d->out), 0);
    assert_string_equal(mj_buf_cstr(&d->out), "{ \"moon\" }\n0\n");
    assert_int_equal(mj_scripts_eval(d->f.scripts, "x", MJ_SPAN("1"), &d->out), MJ_ENOENT);
    assert_int_equal(mj_scripts_eval(d->f.scripts, "s", MJ_SPAN("x = {"), &d->out), MJ_ETRUNC);
    for (int i = 0; i < 5; i++)
        assert_int_equal(mj_scripts_eval(d->f.scripts, "s", MJ_SPAN("while true do end"), &d->out),
                         MJ_EINVAL);
    assert_int_equal(mj_scripts_eval(d->f.scripts, "s", MJ_SPAN("ev.text"), &d->out), MJ_EINVAL);
    struct mj_script_state s;
    mj_scripts_state(d->f.scripts, 0, &s);
    assert_int_equal(s.strikes, 0);
}

/* Neither by asking nor by an error. */
static void secrets_are_hidden(void **state)
{
    struct desk *d = *state;
    setenv("MOONJET_SECRET_ONE", "hunter22hunter", 1);
    fixture_load(&d->f, "local key = jet.secret 'ONE' jet.from '*':tap(function() return key end)");
    mj_scripts_eval(d->f.scripts, NULL, MJ_SPAN("key"), &d->out);
    mj_scripts_eval(d->f.scripts, NULL, MJ_SPAN("error('no ' .. key, 0)"), &d->out);
    mj_scripts_eval(d->f.scripts, NULL, MJ_SPAN("print(key)"), &d->out);
    assert_null(strstr(mj_buf_cstr(&d->out), "hunter"));
    if (!strstr(mj_buf_cstr(&d->out), "no ***\n"))
        fail_msg("%s", mj_buf_cstr(&d->out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values, setup, teardown),
        cmocka_unit_test_setup_teardown(more_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(errors, setup, teardown),
        cmocka_unit_test_setup_teardown(locals, setup, teardown),
        cmocka_unit_test_setup_teardown(events, setup, teardown),
        cmocka_unit_test_setup_teardown(limits, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupted, setup, teardown),
        cmocka_unit_test_setup_teardown(completion, setup, teardown),
        cmocka_unit_test_setup_teardown(live, setup, teardown),
        cmocka_unit_test_setup_teardown(secrets_are_hidden, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
