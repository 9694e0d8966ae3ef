/* What a script must not be able to do: reach the machine, take more memory or time than it is
 * given, or disturb its neighbours. And what it is told when it tries. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "unit/script_fixture.h"

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    fixture_open(*state);
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

/* Metrics outlive a test, so tests look at differences. */
static int64_t counter(const char *name, const char *labels)
{
    return mj_metric_get(mj_metric(name, MJ_COUNTER, "", "%s", labels));
}

static void escapes(void **state)
{
    struct fixture *f = *state;
    static const char *const none[] = {"io",      "ffi",      "jit",      "package",
                                       "getfenv", "setfenv",  "newproxy", "dofile",
                                       "module",  "loadfile", "gcinfo"};
    for (size_t i = 0; i < MJ_COUNT(none); i++) {
        char source[256];
        snprintf(source, sizeof source, "assert(rawget(_G, '%s') == nil)", none[i]);
        fixture_load(f, source);
        snprintf(source, sizeof source, "local x = %s", none[i]);
        fixture_refuse(f, source, none[i]);
    }
    fixture_load(f, "for _, k in ipairs { 'execute', 'remove', 'rename', 'getenv', 'exit', "
                    "'tmpname', 'setlocale' } do assert(os[k] == nil, k) end\n"
                    "for k in pairs(debug) do assert(k == 'traceback', k) end\n"
                    "assert(string.dump == nil and ('x').dump == nil)\n"
                    "assert(not pcall(require, 'ffi') and not pcall(require, 'string.buffer'))\n"
                    "assert(not pcall(setmetatable, _G, {}) and not getmetatable(_G))\n"
                    "assert(not pcall(collectgarbage, 'stop') and collectgarbage 'count' > 0)\n"
                    "assert(select(2, pcall(error, 'x')) == 'x')\n");
    /* Bytecode, however it comes. */
    fixture_load(f, "local bad = '\\27LJ\\2\\2'\n"
                    "assert(not load(bad) and not load(bad, 'x', 'b') and not loadstring(bad))\n"
                    "assert(not pcall(load, function() return bad end))\n");
    fixture_refuse(f, "\033LJ\2\2", "bytecode"); /* the whole file */
    /* Code made at run time lives under the same rules. */
    fixture_load(f, "local f = load 'x = 1' assert(not pcall(f))\n"
                    "f = load 'return io' assert(not pcall(f))\n"
                    "assert(load('return y', 'n', 't', { y = 5 })() == 5)\n");
}

static void globals_are_strict(void **state)
{
    struct fixture *f = *state;
    fixture_refuse(f, "\nx = 1", "s1.lua:2: 'x' is assigned but was never declared");
    fixture_refuse(f, "local a = wrods", "s2.lua:1: global 'wrods' is not defined");
    fixture_refuse(f, "jet.form '*'", "jet has no 'form'; did you mean 'from'?");
    fixture_refuse(f, "jet.from = 1", "cannot be assigned");
    fixture_refuse(f, "jet.log.wran 'x'", "did you mean 'warn'");
    fixture_refuse(f, "jet.config.a = 1", "cannot be assigned");
}

static void declarations_that_do_not_load(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *source, *says;
    } cases[] = {
        {"if then", "unexpected symbol"},
        {"error({})", "lua: an error that is no text"},
        {"error(setmetatable({}, { __tostring = function() return 'told' end }))", "lua: told"},
        {"error(setmetatable({}, { __tostring = function() return jet.secret 'NONE' end }))",
         "lua: an error that is no text"},
        {"error 'a\\0b'", "1: a\\0b"},
        {"\n\njet.from()", ":3:"},
        {"jet.from(5)", "a match is a text or a table, not number"},
        {"jet.from { colection = 'a.b.c' }", "did you mean 'collection'"},
        {"jet.from { txt = 'x' }", "a match has no 'txt'"},
        {"jet.from { collection = 'post' }", "'post' is not a collection"},
        {"jet.from { op = 'crate' }", "did you mean 'create'"},
        {"jet.from { kind = 'comit' }", "did you mean 'commit'"},
        {"jet.from { did = 'bob.example.com' }", "events carry DIDs, not handles"},
        {"jet.from { did = 5 }", "'did' wants a text or a list"},
        {"jet.from { collection = {} }", "the list for 'collection' is empty"},
        {"jet.from { collection = { x = 'a.b.c' } }", "wants a list of texts, not a map"},
        {"jet.from { 'app.bsky.feed.post', op = 'create' }", "this one has both"},
        {"jet.from { op = jet.prefix 'c' }", "does not fit 'op'"},
        {"jet.from(jet.prefix 'did:')", "goes behind a key"},
        {"jet.from(jet.any {})", "is empty"},
        {"jet.from '*':where()", "where wants a function or a match"},
        {"jet.from '*':where 'x'", "is not a collection"},
        {"jet.from '*':map 'x'", "map wants a function"},
        {"jet.from '*':to()", "wants a sink"},
        {"jet.from '*':to 'lua'", "jet.stream \"lua\""},
        {"jet.from '*':to(jet.stream 'A')", "cannot name a stream"},
        {"jet.stream 'main'", "jet.main()"},
        {"jet.stream('x', { backlog = '6h' })", "no option 'backlog'"},
        {"jet.from('*').where(print)", "with a colon"},
        {"jet.main 'x'", "jet.main takes nothing"},
        {"jet.from('*'):as 'a b'", "a name is"},
        {"jet.from('*'):as 'a' jet.from('*'):as 'a'", "already a node named 'a' (line 1)"},
        {"jet.counter 'a-b'", "cannot name a counter"},
        {"jet.counter '2026'",
         "'2026' cannot name a counter: up to 64 letters, digits and '_', and no"},
        {"jet.counter('a', { kind = 'post' })", "the labels of a counter are a list"},
        {"jet.counter('a', 'kind')", "the labels of a counter are a list"},
        {"jet.counter('a', { 'script' })", "cannot name a label"},
        {"jet.from('*'):whrere(print)", "a flow has no 'whrere'; did you mean 'where'?"},
        {"jet.from('*'):strp 'text'", "did you mean 'strip'"},
        {"jet.map('m'):gett 'x'", "a map has no 'gett'; did you mean 'get'?"},
        {"jet.serve('GET /100%', print)", "'GET /100%': a \"%\" in the path of a route is"},
        {"jet.serve('GET /%2g', print)", "a \"%\" in the path of a route is"},
        {"jet.counter('c'):incc()", "a counter has no 'incc'; did you mean 'inc'?"},
        {"jet.queue():pit(1)", "a queue has no 'pit'; did you mean 'put'?"},
        {"local f = jet.queue() f = f[1]", "a queue has no 'number'"},
        {"jet.counter('a', { '__name__' })", "cannot name a label"},
        {"jet.counter('a', { 'b', 'c', 'b' })", "a counter has the label 'b' twice"},
        {"local f = jet.from '*' for _ = 1, 2000 do f:tap(print) end", "more than 1000 nodes"},
        {"require '../up'", "cannot name a module"},
        {"require '/etc/passwd'", "cannot name a module"},
        {"require 'nope'", "nope.lua beside the script"},
        {"for i = 1, 1001 do jet.counter('c' .. i) end",
         "jet.counter: a script has at most 1000 counters and gauges"},
        {"for i = 1, 1001 do jet.every('1s', print) end", "jet.every: a script has at most 1000"},
        {"for i = 1, 1001 do jet.on_stop(print) end", "jet.on_stop: a script has at most 1000"},
        {"local h = {} for i = 1, 70 do h['X-' .. i] = ('x'):rep(1e3) end "
         "jet.webhook { url = 'https://example.com/', headers = h }",
         "jet.webhook: the headers take more than 64 KiB"},
        {"for i = 1, 70 do jet.from '*':to(jet.stream('s' .. i)) end", "too many streams"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        fixture_refuse(f, cases[i].source, cases[i].says);
    int64_t call = f->cfg.call_us;
    f->cfg.call_us = 100000;
    fixture_refuse(f, "error(setmetatable({}, { __tostring = function() while true do end end }))",
                   "lua: an error that is no text");
    f->cfg.call_us = call;
    MJ_AUTO_BUF big = {0};
    for (int i = 0; i < 1 << 17; i++)
        mj_buf_puts(&big, "-- comment");
    fixture_refuse(f, mj_buf_cstr(&big), "too large");
    f->error.len = 0;
    assert_int_equal(mj_scripts_load(f->scripts, "/nonexistent/x.lua", NULL, &f->error), MJ_EIO);
    assert_int_equal(mj_scripts_load(f->scripts, f->dir, NULL, &f->error), MJ_EIO);
    /* Nothing of all that is left: the router still takes the fast path. */
    fixture_post(f, "x");
    assert_int_equal(fixture_count(f, "main"), 1);
}

/* What a script declares and is refused, it may catch; nothing of it may be started. */
static void refused_and_caught(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "assert(not pcall(jet.sink, 'nosuch'))\n"
                    "assert(not pcall(jet.sink, 'nosuch', { path = 1 }))\n"
                    "assert(not pcall(jet.webhook, { url = 'ftp://x' }))\n"
                    "assert(not pcall(jet.every, '1ms', 5))\n"
                    "assert(not pcall(jet.serve, 'GET', print))\n"
                    "jet.from '*':to(jet.stream 'on')\n");
    fixture_post(f, "x");
    mj_scripts_run(f->scripts, 1000);
    assert_int_equal(fixture_count(f, "on"), 1);
}

static void modules(void **state)
{
    struct fixture *f = *state;
    char path[256];
    fixture_file(f, "words.lua", "local M = { n = 0 } M.n = M.n + 1 return M");
    fixture_file(f, "nothing.lua", "");
    fixture_file(f, "loop.lua", "return require 'loop'");
    fixture_file(f, "broken.lua", "\nerror 'inside'");
    snprintf(path, sizeof path, "%s/sub", f->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    fixture_file(f, "sub/deep.lua", "return require('words')");
    snprintf(path, sizeof path, "%s/out.lua", f->dir);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    fixture_load(f, "local words = require 'words'\n"
                    "assert(require 'words' == words and words.n == 1)\n"
                    "assert(require 'sub.deep' == words)\n"
                    "assert(require 'nothing' == true)\n"
                    "assert(require 'moonjet' == jet)\n");
    fixture_refuse(f, "require 'loop'", "requires itself");
    fixture_refuse(f, "require 'broken'", "broken.lua:2: inside");
    fixture_refuse(f, "require 'out'", "outside the script's folder");
    /* One in the other, a few levels and far too many. */
    for (int i = 0; i < 3000; i++) {
        char name[32], text[64];
        snprintf(name, sizeof name, "m%d.lua", i);
        snprintf(text, sizeof text, "return require 'm%d'", i + 1);
        fixture_file(f, name, i == 2999 ? "return 'end'" : text);
    }
    fixture_load(f, "assert(require 'm2960' == 'end')");
    fixture_refuse(f, "require 'm0'", "functions nested too deeply");
}

/* Strikes of long ago do not add up to a quarantine, which test_life.c is about. */
static void much_later(int64_t *now)
{
    *now += INT64_C(60000000);
    mj_clock_freeze(*now);
}

/* Endless in every way there is. Each is one event's error and nobody else's. */
static void runaways(void **state)
{
    struct fixture *f = *state;
    static const char *const endless[] = {
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(error, 'x') end",
        "local function f() return f() end f()",
        "for i = 1, 1e15 do end",
        "repeat until false",
        "coroutine.wrap(function() while true do end end)()",
        "xpcall(function() error 'x' end, function() while true do end end)",
        "table.sort({ 3, 2, 1 }, function() while true do end end)",
        "local t = setmetatable({}, { __index = function() while true do end end }) return t.x",
        "(('x'):rep(100)):gsub('.', function() while true do end end)",
        "return (('a'):rep(5000)):find(('.-'):rep(20) .. 'b')",
        "local s = '' while true do s = s .. ev.text end",
        "while true do local t = ev.record.text end",
        "while true do ev:table() end",
        "local co = coroutine.wrap(function() while true do coroutine.yield() end end) "
        "while true do co() end",
    };
    int64_t stopped = counter("moonjet_script_stopped_total", "script=\"s1.lua\"");
    MJ_AUTO_BUF source = {0};
    mj_buf_puts(&source, "local endless = {\n");
    for (size_t i = 0; i < MJ_COUNT(endless); i++)
        mj_buf_printf(&source, "function(ev) %s end,\n", endless[i]);
    mj_buf_puts(&source, "}\n"
                         "jet.from '*':where(function(ev)\n"
                         "  local f = endless[tonumber(ev.text)]\n"
                         "  if f then f(ev) end\n"
                         "  return true\n"
                         "end):as 'loop':to(jet.stream 'loop')\n"
                         "jet.from '*':to(jet.stream 'calm')\n");
    f->cfg.call_us = 30000;
    fixture_load(f, mj_buf_cstr(&source));
    int64_t now = mj_now_us();
    for (size_t i = 1; i <= MJ_COUNT(endless); i++) {
        char text[8];
        much_later(&now);
        snprintf(text, sizeof text, "%zu", i);
        fixture_skip(f);
        fixture_post(f, text);
        fixture_post(f, "fine"); /* the very next event goes through the same function */
        if (fixture_count(f, "loop") != 1 || fixture_count(f, "calm") != 2)
            fail_msg("%s", endless[i - 1]);
    }
    mj_clock_freeze(-1);
    assert_int_equal(counter("moonjet_script_stopped_total", "script=\"s1.lua\"") - stopped,
                     MJ_COUNT(endless));
    f->cfg.declare_us = 0; /* the default */
    fixture_refuse(f, "while true do end", "s2.lua:1: stopped after 500 ms");
    /* Not the product of both lengths. */
    fixture_load(f, "local a, b = ('a'):rep(4e5), ('a'):rep(2e5)\n"
                    "assert(a:find(b .. 'b', 1, true) == nil)\n"
                    "assert(select(2, (a .. '.' .. a):find(b .. '.', 1, true)) == 4e5 + 1)\n"
                    "assert(a:find(b, -2e5, true) == 2e5 + 1 and not a:find(b, -1e5, true))\n");
}

/* Whatever raises, in C or in lua/sandbox.lua: the author reads a line of the script. */
static void errors_name_a_line_of_the_script(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *source, *expected;
    } wrong[] = {
        {"jet.log.info('%d', 'x')", ".lua:2: jet.log.info: bad argument #2 (number expected"},
        {"coroutine.wrap(3)", ".lua:2: coroutine.wrap wants a function, not number"},
        {"xpcall(error, nil)", ".lua:2: xpcall wants a function as its second argument, not nil"},
        {"pairs(nil)", ".lua:2: bad argument #1 to 'pairs'"},
        {"('x'):find(nil)", ".lua:2: bad argument #1 to 'find'"},
        {"local x = (('a'):rep(5000)):find(('.-'):rep(20) .. 'b')", ".lua:2: stopped after"},
        {"coroutine.wrap(function() while true do end end)()", ".lua:2: stopped after"},
        {"for i = 1, 1001 do jet.from '*' end", ".lua:2: the script draws more than 1000 nodes"},
    };
    for (size_t i = 0; i < MJ_COUNT(wrong); i++) {
        MJ_AUTO_BUF source = {0};
        mj_buf_printf(&source, "-- the first line is in order\n%s", wrong[i].source);
        f->cfg.declare_us = strstr(wrong[i].expected, "stopped") ? 100000 : 20000000;
        fixture_refuse(f, mj_buf_cstr(&source), wrong[i].expected);
    }
}

static void bombs(void **state)
{
    struct fixture *f = *state;
    static const char *const bombs[] = {
        "local t = {} for i = 1, 1e8 do t[i] = {} end",
        "local s = 'x' while true do s = s .. s end",
        "return ('x'):rep(1e9)",
        "local function f() return 1 + f() end f()",
        "local function f() return coroutine.wrap(f)() end f()",
        "local function f(s) return (s:gsub('.', f)) end f 'x'",
        "local t = {} for i = 1, 1e8 do t[i] = ('x'):rep(1e5) .. i end",
        "local t = {} for i = 1, 1e8 do t[i] = function() return t end end",
        "local t = {} for i = 1, 1e8 do t[i] = coroutine.create(print) end",
        "local function f() table.sort({ 1, 2, 3 }, function(a, b) f() return a < b end) end f()",
        "local m = {} m.__index = function(t, k) return setmetatable({}, m)[k] end "
        "return setmetatable({}, m).x",
        "local t = {} for i = 1, 1e8 do t['k' .. i] = i end",
        "error(setmetatable({}, { __tostring = function() error 'again' end }))",
        "error()",
    };
    MJ_AUTO_BUF source = {0};
    mj_buf_puts(&source, "local bombs = {\n");
    for (size_t i = 0; i < MJ_COUNT(bombs); i++)
        mj_buf_printf(&source, "function() %s end,\n", bombs[i]);
    mj_buf_puts(&source, "}\n"
                         "jet.from '*':where(function(ev)\n"
                         "  local f = bombs[tonumber(ev.text)]\n"
                         "  if f then f() end\n"
                         "  return true\n"
                         "end):to(jet.stream 'bomb')\n");
    f->cfg.memory = 4 << 20;
    fixture_load(f, mj_buf_cstr(&source));
    int64_t now = mj_now_us();
    for (size_t i = 1; i <= MJ_COUNT(bombs); i++) {
        char text[8];
        much_later(&now);
        snprintf(text, sizeof text, "%zu", i);
        fixture_skip(f);
        fixture_post(f, text);
        fixture_post(f, "fine");
        if (fixture_count(f, "bomb") != 1 || fixture_count(f, "main") != 2)
            fail_msg("%s", bombs[i - 1]);
        assert_true(mj_metric_get(mj_metric("moonjet_script_heap_bytes", MJ_GAUGE, "",
                                            "script=\"s1.lua\"")) <= 4 << 20);
    }
    mj_clock_freeze(-1);
    /* Kept garbage is collected before it is an error, even right below the cap. */
    fixture_load(f, "jet.from '*':where(function() local s = ('x'):rep(3e5) .. tostring({}) "
                    "return #s > 0 end):to(jet.stream 'churn')");
    fixture_skip(f);
    for (int i = 0; i < 200; i++)
        fixture_post(f, "x");
    assert_int_equal(fixture_count(f, "churn"), 200);
    f->cfg.memory = 10000;
    fixture_refuse(f, "", "not enough memory");
}

/* An error that leaves thousands of functions in C takes seconds, which no budget could cut. */
static void no_deep_nesting_through_c(void **state)
{
    struct fixture *f = *state;
    static const char *const nested[] = {
        "local t = setmetatable({}, { __tostring = function(t) return ('%s'):format(t) end }) "
        "tostring(t)",
        "local t t = setmetatable({}, { __tostring = function() jet.log.info('%s', t) end }) "
        "jet.log.info('%s', t)",
        "local t = {} t.__index = function() return jet.map('m', setmetatable({}, t)) end "
        "jet.map('m', setmetatable({}, t))",
        "local t = { url = 'https://example.com/' } "
        "t.__index = function() return jet.webhook(setmetatable({}, t)) end "
        "jet.webhook(setmetatable({}, t))",
        "local t = {} t.__index = function() return jet.http.get('x', setmetatable({}, t)) end "
        "jet.http.get('x', setmetatable({}, t))",
        "local function f()\n"
        "  table.sort({ 3, 2, 1 }, function(a, b) f() return a < b end)\n"
        "end\n"
        "f()",
        "local function f() return (('x'):gsub('x', f)) end f()",
    };
    for (size_t i = 0; i < MJ_COUNT(nested); i++)
        fixture_refuse(f, nested[i], "functions nested too deeply");
    fixture_load(f, "assert(('%s %d'):format(setmetatable({}, { __tostring = function() "
                    "return 'x' end }), 3) == 'x 3')");
}

static void scripts_do_not_see_each_other(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "rawset(_G, 'shared', 1)\n"
                    "string.upper = function() return 'poisoned' end\n"
                    "getmetatable('').__index = function() return 'worse' end\n"
                    "jet.from '*':map(function(d) d.record.text = 'ONE' return d end)"
                    ":to(jet.stream 'one')\n");
    fixture_load(f, "assert(rawget(_G, 'shared') == nil)\n"
                    "jet.from '*':map(function(d) d.record.text = d.text:upper() return d end)"
                    ":to(jet.stream 'two')\n"
                    "jet.from '*':to(jet.stream 'same')\n");
    fixture_post(f, "a");
    assert_non_null(strstr(fixture_take(f, "one"), "\"text\":\"ONE\""));
    assert_non_null(strstr(fixture_take(f, "two"), "\"text\":\"A\""));
    assert_non_null(strstr(fixture_take(f, "same"), "\"text\":\"a\""));
    assert_non_null(strstr(fixture_take(f, "main"), "\"text\":\"a\""));
}

static void configuration(void **state)
{
    struct fixture *f = *state;
    struct mj_strings config = {.v = {"a=1", "b=x=y", "flag", "empty="}, .n = 4};
    f->cfg.config = &config;
    fixture_load(f, "local c = jet.config\n"
                    "assert(c.a == '1' and c.b == 'x=y' and c.flag == 'true' and c.empty == '')\n"
                    "assert(c.missing == nil)\n");
}

static void counters(void **state)
{
    struct fixture *f = *state;
    int64_t errors = counter("moonjet_node_errors_total", "script=\"s1.lua\",node=\"tap#1\"");
    fixture_load(f, "local plain = jet.counter 'plain'\n"
                    "local two = jet.counter('two', { 'a', 'b' })\n"
                    "local many = jet.counter('many', { 'text' })\n"
                    "jet.from '*':tap(function(ev)\n"
                    "  plain:inc() plain:inc(4)\n"
                    "  two:inc(ev.op, nil) two:inc(ev.op, 'q\"', 2)\n"
                    "  many:inc(ev.text)\n"
                    "  assert(not pcall(plain.inc, plain, -1))\n"
                    "  assert(select(2, pcall(plain.inc, plain, 0.5)):find 'whole numbers')\n"
                    "  assert(not pcall(two.inc, two, {}, 'x'))\n"
                    "  assert(not pcall(plain.inc))\n"
                    "end)\n");
    /* Eight labels of full length are written to their ends. */
    fixture_load(f, "local names, values = {}, {}\n"
                    "for i = 1, 8 do\n"
                    "  names[i] = ('n'):rep(30) .. i\n"
                    "  values[i] = ('\\195\\164'):rep(60)\n"
                    "end\n"
                    "local wide = jet.counter('wide', names)\n"
                    "jet.from '*':tap(function() wide:inc(unpack(values)) end)\n");
    for (int i = 0; i < 1500; i++) {
        char text[16];
        snprintf(text, sizeof text, "t%d", i);
        fixture_post(f, text);
    }
    assert_int_equal(counter("moonjet_script_plain", "script=\"s1.lua\""), 7500);
    assert_int_equal(counter("moonjet_script_two", "script=\"s1.lua\",a=\"create\",b=\"\""), 1500);
    assert_int_equal(counter("moonjet_script_two", "script=\"s1.lua\",a=\"create\",b=\"q\\\"\""),
                     3000);
    assert_int_equal(counter("moonjet_script_many", "script=\"s1.lua\",text=\"t7\""), 1);
    /* A thousand texts have a series of their own, the rest share one. */
    assert_int_equal(counter("moonjet_script_many", "script=\"s1.lua\",other=\"true\""), 500);
    assert_int_equal(counter("moonjet_node_errors_total", "script=\"s1.lua\",node=\"tap#1\""),
                     errors);
    MJ_AUTO_BUF all = {0};
    mj_metrics_render(&all);
    assert_non_null(strstr(mj_buf_cstr(&all), "\xc3\xa4\"} 1500\n"));
}

static void slow_calls_are_counted(void **state)
{
    struct fixture *f = *state;
    int64_t slow = counter("moonjet_script_slow_total", "script=\"s1.lua\"");
    f->cfg.slow_us = 1;
    fixture_load(f, "jet.from '*':tap(function() for i = 1, 1e5 do local t = { i } end end)");
    fixture_post(f, "x");
    assert_int_equal(counter("moonjet_script_slow_total", "script=\"s1.lua\"") - slow, 1);
    assert_true(counter("moonjet_node_nanoseconds_total", "script=\"s1.lua\",node=\"tap#1\"") >
                1000);
}

static void bad_records_reach_no_script(void **state)
{
    struct fixture *f = *state;
    static const char tap[] = "script=\"s1.lua\",node=\"tap#1\"";
    int64_t before = counter("moonjet_node_events_in_total", tap);
    fixture_load(f, "jet.from '*':tap(function(ev) error 'must not run' end)\n"
                    "jet.main():where(function(ev) return true end)\n");
    struct mj_event ev = fixture_commit(f, "app.bsky.feed.post", MJ_OP_CREATE,
                                        MJ_SPAN("\xa1\x61\x61\xf9\x00\x00")); /* a float */
    assert_int_equal(mj_router_event(f->router, &ev), 0);
    assert_int_equal(fixture_count(f, "main"), 0);
    assert_int_equal(counter("moonjet_drops_total", "reason=\"cbor_float\""), 1);
    assert_int_equal(counter("moonjet_node_events_in_total", tap) - before, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(no_deep_nesting_through_c),
        T(escapes),
        T(globals_are_strict),
        T(declarations_that_do_not_load),
        T(refused_and_caught),
        T(modules),
        T(runaways),
        T(errors_name_a_line_of_the_script),
        T(bombs),
        T(scripts_do_not_see_each_other),
        T(configuration),
        T(counters),
        T(slow_calls_are_counted),
        T(bad_records_reach_no_script),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
