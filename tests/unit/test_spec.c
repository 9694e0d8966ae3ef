/* The spec runner: how it tells what failed, and that a spec which runs away, eats memory or breaks
 * in odd places costs itself only. What specs can do is tested by specs (tests/specs). */
#include <stdio.h>

#include "cmocka_all.h"

#include "base/err.h"
#include "script/spec.h"

struct bench {
    char dir[64];
    struct mj_spec_cfg cfg;
    struct mj_spec_counts counts;
    struct mj_buf out;
};

static void on_write(void *ctx, struct mj_span text)
{
    struct bench *b = ctx;
    mj_buf_put(&b->out, text.ptr, text.len);
}

static int setup(void **state)
{
    struct bench *b = mj_calloc(1, sizeof *b);
    strcpy(b->dir, "/tmp/moonjet-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->cfg = (struct mj_spec_cfg){.write = on_write, .ctx = b};
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", b->dir);
    assert_int_equal(system(command), 0);
    mj_buf_deinit(&b->out);
    free(b);
    return 0;
}

static void put(struct bench *b, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", b->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Runs the text as a spec; the counts and the output are of this run. */
static const char *run(struct bench *b, const char *text)
{
    char path[128];
    put(b, "a_spec.lua", text);
    snprintf(path, sizeof path, "%s/a_spec.lua", b->dir);
    b->out.len = 0;
    b->counts = (struct mj_spec_counts){0};
    mj_spec_run(path, &b->cfg, &b->counts);
    return mj_buf_cstr(&b->out);
}

static void counted(const struct bench *b, unsigned passed, unsigned failed, unsigned skipped)
{
    if (b->counts.passed != passed || b->counts.failed != failed || b->counts.skipped != skipped)
        fail_msg("%u passed, %u failed, %u skipped:\n%s", b->counts.passed, b->counts.failed,
                 b->counts.skipped, (const char *)b->out.ptr);
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("expected \"%s\" in\n%s", part, text);
}

static void lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("did not expect \"%s\" in\n%s", part, text);
}

static void verdicts(void **state)
{
    struct bench *b = *state;
    const char *out = run(b, "describe('moon', function()\n"
                             "  describe('light', function()\n"
                             "    it('shines', function() end)\n"
                             "    it('fails', function()\n"
                             "      assert.equal(1, 2, 'sums')\n"
                             "    end)\n"
                             "    it 'waits'\n"
                             "    pending 'too'\n"
                             "    it('stops', function() pending 'not yet' end)\n"
                             "  end)\n"
                             "end)\n");
    counted(b, 1, 1, 3);
    has(out, "moon\n  light\n    ✓ shines\n    ✗ fails\n");
    has(out, "/a_spec.lua:5: these are not equal\n        sums\n        expected  1\n"
             "        actual    2\n");
    has(out, "○ stops (not yet)");
}

/* Everything that a failure can be, each with its line. */
static void failures(void **state)
{
    static const struct {
        const char *body, *part;
    } cases[] = {
        {"error 'x'", "a_spec.lua:2: x\n"},
        {"error('x', 0)", "a_spec.lua:2: x\n"},
        {"error({ code = 1 })", "a_spec.lua:2: error: { code = 1 }\n"},
        {"error()", "a_spec.lua:2: error: nil\n"},
        {"error(setmetatable({}, { __index = error }))", "error: {}\n"},
        {"error(setmetatable({}, { __tostring = function() return 'text' end }))",
         "a_spec.lua:2: text\n"},
        {"error(setmetatable({ 1 }, { __tostring = error }))", "a_spec.lua:2: error: { 1 }\n"},
        {"error(setmetatable({ 1 }, { __tostring = function() while true do end end }))",
         "a_spec.lua:2: error: { 1 }\n"},
        {"fail 'on purpose'", "a_spec.lua:2: on purpose\n"},
        {"assert.message('look').is_true(false)", "expected true\n    look\n"},
        {"assert.is.unique({ 1, 2, 1 })", "more than once\n    actual    1\n"},
        {"assert.is_callable(1)", "expected callable\n"},
        {"local s = spy.new() s(1) assert.spy(s).was.called(2)",
         "a_spec.lua:2: the spy was called once, not 2 times\n      called with { 1 }\n"},
        {"local s = spy.new() s(1) assert.spy(s).was_not.called()",
         "the spy was called once, but should not be\n"},
        {"local s = spy.new() s(1) assert.spy(s).was.called_with(nil, match.is_string())",
         "was not called with this\n    expected  { nil, match.string() }\n    actual    { 1 "
         "}\n"},
        {"local t = { f = print } stub(t, 'f').returns(1) t.f() assert.stub(t.f).returned_with(2)",
         "the spy on 'f' did not return this\n    expected  { 2 }\n    actual    { 1 }\n"},
        {"assert.equal(1, spy.new())", "actual    <spy>\n"},
        {"assert.spy(print).was.called()", "assert.spy wants a spy, not function"},
        {"assert:snapshot()", "assert has no 'snapshot': a block takes its spies with it"},
        {"local x; return x.y", "a_spec.lua:2: attempt to index local 'x'"},
        {"nosuch()", "a_spec.lua:2: global 'nosuch' is not defined"},
        {"x = 1", "'x' is assigned but was never declared"},
        {"string.rep()", "a_spec.lua:2: bad argument #1 to 'rep'"},
        {"jet.from '*'", "jet.from is for scripts; a spec loads one with jet.test"},
        {"jet.test = 1", "jet.test cannot be assigned"},
        {"it('inner', function() end)", "it cannot stand inside an `it`"},
        {"describe('inner', function() end)", "describe cannot stand inside an `it`"},
        {"local function f() return 1 + f() end f()", "stack overflow"},
        {"local t = {} while true do t[#t + 1] = ('x'):rep(1e7) .. #t end", "not enough memory"},
        {"local t = setmetatable({}, { __index = function(t, k) error 'meta' end }) return t.x",
         "a_spec.lua:2: meta"},
        {"coroutine.wrap(function() error 'co' end)()", "a_spec.lua:2: co"},
        {"assert.same({ 1 }, { 1, 2 })", "expected  { 1 }\n"},
        {"assert(false)", "assertion failed!"},
        {"jet.test 'nosuch'", "there is no script 'nosuch.lua' beside the spec"},
        {"jet.test 'bad'", "bad.lua:1: '=' expected near 'is'"},
    };
    struct bench *b = *state;
    b->cfg.limit_us = 2000000;
    put(b, "bad.lua", "this is no Lua");
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        char text[512];
        snprintf(text, sizeof text, "it('a', function()\n %s\nend)\nit('b', function() end)",
                 cases[i].body);
        const char *out = run(b, text);
        counted(b, 1, 1, 0);
        has(out, cases[i].part);
        has(out, "✓ b");
    }
}

static void runaways(void **state)
{
    static const char *const cases[] = {
        "it('a', function()\n while true do end end)",
        "it('a', function()\n while true do pcall(function() while true do end end) end end)",
        "it('a', function()\n pcall(function() while true do end end) end)",
        "it('a', function()\n local s = ('a'):rep(1e5) .. 'b' while true do s:find('.-.-.-.-c') "
        "end "
        "end)",
        "it('a', function()\n coroutine.wrap(function() while true do end end)() end)",
        "it('a', function()\n local s = setmetatable({}, { __index = function(t) return t.x end }) "
        "while true do pcall(function() return s.x end) end end)",
        "describe('d', function() before_each(function()\n while true do end end) it('a', "
        "function() end) end)",
        "describe('d', function() setup(function()\n while true do end end) it('a', function() "
        "end) "
        "end)",
        "describe('d', function() after_each(function()\n while true do end end) it('a', "
        "function() "
        "end) end)",
        "describe('d', function()\n while true do end end)",
        "it('a', function()\n assert.has_error(function() while true do end end) end)",
    };
    struct bench *b = *state;
    b->cfg.limit_us = 30000;
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        char text[512];
        snprintf(text, sizeof text, "%s\nit('b', function() end)", cases[i]);
        const char *out = run(b, text);
        counted(b, 1, 1, 0);
        has(out, "a_spec.lua:2: stopped: it ran for too long");
        has(out, "✓ b");
    }
    const char *out = run(b, "it('b', function() end)\nwhile true do end");
    counted(b, 1, 1, 0);
    has(out, "a_spec.lua:2: stopped");
}

/* Neither tasks that are due for ever nor ones that compute for ever hold a spec up. */
static void tasks_without_rest(void **state)
{
    struct bench *b = *state;
    put(b, "sleep.lua", "jet.from '*':each(function() while true do jet.sleep '0ms' end end)");
    put(b, "spin.lua", "jet.spawn(function() while true do end end)");
    b->cfg.limit_us = 50000;
    const char *out = run(b, "it('a', function() jet.test 'sleep':post {} end)\n"
                             "it('b', function() jet.test 'spin':advance '1s' end)\n"
                             "it('c', function() end)\n");
    counted(b, 1, 2, 0);
    has(out, "a_spec.lua:1: the script's tasks do not come to rest: after 0.1 s");
    has(out, "a_spec.lua:2: the script's tasks do not come to rest: after 0.1 s");
}

/* A handle kept beyond its call is an error, even where production would show another event. */
static void strict_handles(void **state)
{
    struct bench *b = *state;
    put(b, "keep.lua",
        "local last\n"
        "jet.from '*':tap(function(ev)\n"
        "  if last then last = last.did end\n"
        "  last = ev\n"
        "end)\n");
    const char *out = run(b, "it('a', function()\n"
                             "  local t = jet.test 'keep'\n"
                             "  t:post {}\n"
                             "  t:post {}\n"
                             "end)\n");
    counted(b, 0, 1, 0);
    has(out, "keep.lua:3");
    has(out, "the event is gone");
}

/* A script's own limits hold, and its time is not the spec's. */
static void scripts_run_away(void **state)
{
    struct bench *b = *state;
    put(b, "loop.lua", "jet.from '*':tap(function() while true do end end)");
    put(b, "load.lua", "while true do end");
    b->cfg.limit_us = 40000; /* below what the script may take */
    const char *out =
        run(b, "it('a', function()\n"
               "  local t = jet.test 'loop'\n"
               "  t:post {}\n"
               "  local errors = t:errors()\n"
               "  assert.matches('^loop.lua:1 tap#1: .*stopped after 50 ms', errors[1])\n"
               "end)\n"
               "it('b', function() jet.test 'loop':post {} end)\n"
               "it('c', function()\n"
               "  assert.error_matches(function() jet.test 'load' end, 'stopped after')\n"
               "end)\n");
    counted(b, 2, 1, 0);
    has(out, "the script had errors that the spec did not ask for");
    has(out, "loop.lua:1 tap#1");
}

static void hooks(void **state)
{
    struct bench *b = *state;
    const char *out = run(b, "local log = {}\n"
                             "local function say(s) return function() log[#log + 1] = s end end\n"
                             "setup(say 'S')\n"
                             "before_each(say 'b')\n"
                             "after_each(say 'a')\n"
                             "describe('d', function()\n"
                             "  setup(say 's')\n"
                             "  before_each(say '(')\n"
                             "  after_each(say ')')\n"
                             "  teardown(say 't')\n"
                             "  it('1', say '1')\n"
                             "  it('2', function() finally(say 'f') finally(say 'g') error 'x' "
                             "end)\n"
                             "end)\n"
                             "it('3', say '3')\n"
                             "teardown(function() print(table.concat(log)) end)\n");
    counted(b, 2, 1, 0);
    has(out, "\nSsb(1)ab(gf)atb3a\n");

    out = run(b, "describe('d', function()\n"
                 "  setup(function() error 'no' end)\n"
                 "  it('1', function() end)\n"
                 "  describe('e', function() it('2', function() end) end)\n"
                 "end)\n"
                 "describe('f', function() teardown(function() error 'late' end)\n"
                 "  it('3', function() end) end)\n"
                 "describe('g', function() after_each(function() error 'after' end)\n"
                 "  it('4', function() end) end)\n");
    counted(b, 1, 4, 0);
    has(out, "in the setup of d");
    has(out, "✗ teardown\n");
    has(out, "a_spec.lua:6: late");
    has(out, "a_spec.lua:8: after");

    /* Where nothing runs, lazy hooks do not either. */
    out = run(b, "local log = ''\n"
                 "local function say(s) return function() log = log .. s end end\n"
                 "describe('d', function()\n"
                 "  setup(say 's') lazy_setup(say 'l') lazy_teardown(say 'm') teardown(say 't')\n"
                 "  pending 'later'\n"
                 "end)\n"
                 "it('e', function() assert.equal('st', log) end)\n");
    counted(b, 1, 0, 1);

    /* Whatever a hook describes would never run. */
    out = run(b, "describe('d', function()\n"
                 "  setup(function() it('lost', function() error 'x' end) end)\n"
                 "  it('1', function() end)\n"
                 "end)\n"
                 "describe('e', function() teardown(function() pending 'lost' end)\n"
                 "  it('2', function() end) end)\n");
    counted(b, 1, 2, 0);
    has(out, "a_spec.lua:2: it cannot stand inside an `it` or a hook");
    has(out, "a_spec.lua:5: pending cannot stand inside an `it` or a hook");
}

/* A table that does not let go of a spy fails the test or block that put it there, and costs no
 * more: other spies go, and other tests run. */
static void spies_that_stay(void **state)
{
    struct bench *b = *state;
    b->cfg.limit_us = 30000;
    const char *out =
        run(b, "local plain = { f = print }\n"
               "local function table_that(fn)\n"
               "  return setmetatable({}, { __index = { f = print },\n"
               "    __newindex = function(_, _, v) if not spy.is_spy(v) then fn() end end })\n"
               "end\n"
               "local refuses = table_that(function() error 'mine' end)\n"
               "local hangs = table_that(function() while true do end end)\n"
               "it('a', function() stub(plain, 'f') stub(refuses, 'f') end)\n"
               "it('b', function() stub(plain, 'f') stub(hangs, 'f') end)\n"
               "describe('c', function() setup(function() stub(refuses, 'f') end)\n"
               "  it('c', function() end) end)\n"
               "describe('d', function() stub(refuses, 'f') it('d', function() end) end)\n"
               "it('e', function() assert.equal(print, plain.f) end)\n");
    counted(b, 3, 4, 0);
    has(out, "a_spec.lua:6: mine");
    has(out, "a_spec.lua:7: stopped");
    has(out, "✗ teardown\n");
    has(out, "✗ describe\n");
}

static void broken_files(void **state)
{
    struct bench *b = *state;
    has(run(b, "it('a', function("), "a_spec.lua:1: ");
    counted(b, 0, 1, 0);
    /* What it described before it broke still runs. */
    has(run(b, "it('a', function() end)\nerror 'half'"), "a_spec.lua:2: half");
    counted(b, 1, 1, 0);
    has(run(b, "describe('d', function()\n it('a', function() end)\n error 'half'\nend)"),
        "a_spec.lua:3: half");
    counted(b, 1, 1, 0);
    b->counts = (struct mj_spec_counts){0};
    b->out.len = 0;
    mj_spec_run("/nonexistent/x_spec.lua", &b->cfg, &b->counts);
    has(mj_buf_cstr(&b->out), "/nonexistent/x_spec.lua: no such file");
    counted(b, 0, 1, 0);
    run(b, "");
    counted(b, 0, 0, 0);
    has(run(b, "describe('d', 1)"), "describe wants a function");
    has(run(b, "it(1, function() end)"), "it wants a name, then a function");
}

static void diffs(void **state)
{
    struct bench *b = *state;
    const char *out = run(
        b, "it('a', function()\n"
           "  local function post(text) return { did = 'did:web:example.com', kind = 'commit',\n"
           "    op = 'create', record = { text = text, langs = { 'en' }, tags = {} } } end\n"
           "  assert.same({ post 'one', post 'two' }, { post 'one', post 't\\27[31mwo' })\n"
           "end)\n");
    has(out, "  - expected  + actual\n");
    has(out, "-     record = { langs = { \"en\" }, tags = {}, text = \"two\" },\n");
    has(out, "+     record = { langs = { \"en\" }, tags = {}, text = \"t\\027[31mwo\" },\n");
    has(out, "    … ");
    lacks(out, "\033");
    b->cfg.colour = true;
    has(run(b, "it('a', function() end)"), "\033[32m✓ \033[0ma");
}

static void filter_and_list(void **state)
{
    struct bench *b = *state;
    static const char text[] = "describe('one', function()\n"
                               "  setup(function() print 'setup one' end)\n"
                               "  it('a', function() end)\n"
                               "end)\n"
                               "describe('two', function()\n"
                               "  it('a', function() end)\n"
                               "  it('b', function() error 'x' end)\n"
                               "end)\n";
    b->cfg.filter = "two a";
    const char *out = run(b, text);
    counted(b, 1, 0, 0);
    lacks(out, "setup one");
    b->cfg.filter = "nothing like it";
    run(b, text);
    counted(b, 0, 0, 0);
    b->cfg.filter = "%";
    has(run(b, text), "a_spec.lua: --filter %: malformed pattern");
    counted(b, 0, 1, 0);
    b->cfg.filter = NULL;
    b->cfg.list = true;
    assert_string_equal(run(b, text), "one a\ntwo a\ntwo b\n");
    counted(b, 0, 0, 0);
    has(run(b, "it('a', function() end)\nerror 'half'"), "a_spec.lua:2: half\na\n");
    counted(b, 0, 1, 0);
}

static void tap(void **state)
{
    struct bench *b = *state;
    b->cfg.tap = true;
    b->counts.passed = 3;
    put(b, "b_spec.lua",
        "describe('d #1', function()\n"
        "  it('a', function() print 'hello\\nthere' end)\n"
        "  it('b', function() assert.equal('x\\ny', 1) end)\n"
        "  it('c')\n"
        "end)\n");
    char path[128];
    snprintf(path, sizeof path, "%s/b_spec.lua", b->dir);
    mj_spec_run(path, &b->cfg, &b->counts);
    const char *out = mj_buf_cstr(&b->out);
    has(out, "# hello\n# there\nok 4 - d \\#1 a\nnot ok 5 - d \\#1 b\n# ");
    has(out, "# actual    1\nok 6 - d \\#1 c # SKIP ");
    for (const char *line = out; *line; line = strchr(line, '\n') + 1)
        assert_true(*line == '#' || !strncmp(line, "ok ", 3) || !strncmp(line, "not ok ", 7));
}

static void secrets(void **state)
{
    struct bench *b = *state;
    put(b, "s.lua", "local s = jet.secret 'HOOK' jet.from '*':to(jet.stream 's')");
    const char *out = run(b, "it('a', function() jet.test 's' end)\n"
                             "it('b', function() jet.test('s', { secrets = { HOOK = 'x' } }) end)");
    counted(b, 1, 1, 0);
    has(out, "s.lua:1: secret 'HOOK' is not to be had: a spec gives it, "
             "jet.test(…, { secrets = { HOOK = \"…\" } })");
}

/* A bed may be dropped, kept and used in every way; nothing is left behind (the sanitizer looks).
 */
static void beds(void **state)
{
    struct bench *b = *state;
    put(b, "s.lua", "jet.from '*':to(jet.stream 's')");
    const char *out =
        run(b, "local kept = jet.test 's'\n"
               "it('a', function() for i = 1, 30 do jet.test 's':post {} end kept:post {} end)\n"
               "it('b', function() for i = 1, 100 do jet.test 's' end end)\n"
               "it('c', function() kept:post {} assert.equal(2, #kept:out 's') end)\n"
               "it('d', function() kept.post({}) end)\n"
               "it('e', function() jet.test('s').out(kept, {}) end)\n");
    counted(b, 2, 3, 0);
    has(out, "more than 64 scripts at once");
    has(out, "t:out wants the name of a stream");
}

/* A test that takes all memory fails by itself. */
static void bombs(void **state)
{
    struct bench *b = *state;
    const char *out = run(b, "it('a', function() local t while true do t = { t } end end)\n"
                             "it('b', function() assert.equal(1, 1) end)\n"
                             "it('c', function() local s = 'x' while true do s = s .. s end end)\n"
                             "it('d', function() assert.equal(1, 1) end)\n");
    counted(b, 2, 2, 0);
    has(out, "not enough memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(verdicts, setup, teardown),
        cmocka_unit_test_setup_teardown(failures, setup, teardown),
        cmocka_unit_test_setup_teardown(runaways, setup, teardown),
        cmocka_unit_test_setup_teardown(tasks_without_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(strict_handles, setup, teardown),
        cmocka_unit_test_setup_teardown(scripts_run_away, setup, teardown),
        cmocka_unit_test_setup_teardown(hooks, setup, teardown),
        cmocka_unit_test_setup_teardown(spies_that_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_files, setup, teardown),
        cmocka_unit_test_setup_teardown(diffs, setup, teardown),
        cmocka_unit_test_setup_teardown(filter_and_list, setup, teardown),
        cmocka_unit_test_setup_teardown(tap, setup, teardown),
        cmocka_unit_test_setup_teardown(secrets, setup, teardown),
        cmocka_unit_test_setup_teardown(beds, setup, teardown),
        cmocka_unit_test_setup_teardown(bombs, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
