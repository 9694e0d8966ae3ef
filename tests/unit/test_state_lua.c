/* State and named sets as scripts see them: jet.map, jet.set, jet.zset, jet.top, jet.gauge. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/metrics.h"
#include "state/store.h"
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

/* Runs `body` once per post; it asserts. `top` is the script's top level before it. */
static void check(struct fixture *f, const char *top, const char *body)
{
    MJ_AUTO_BUF source = {0};
    mj_buf_printf(&source,
                  "%s\njet.from 'app.bsky.feed.post:create':where(function(ev)\n%s\nreturn true "
                  "end):to(jet.stream 'ok')\n",
                  top, body);
    fixture_load(f, mj_buf_cstr(&source));
    fixture_skip(f);
    fixture_post(f, "hello");
    assert_int_equal(fixture_count(f, "ok"), 1);
}

static void maps(void **state)
{
    struct fixture *f = *state;
    check(f, "local m = jet.map 'm'",
          "assert(m:get 'a' == nil and m:get('a', 7) == 7 and m:count() == 0)\n"
          "m:set('a', 'text') m:set('b', 2.5) m:set('c', true) m:set('d', false) m:set('', '')\n"
          "assert(m:get 'a' == 'text' and m:get 'b' == 2.5 and m:get 'c' == true)\n"
          "assert(m:get('d', 9) == false and m:get '' == '' and m:count() == 5)\n"
          "assert(m:has 'd' and not m:has 'e')\n"
          "assert(m:remove 'd' and not m:remove 'd' and not m:has 'd')\n"
          "m:set('c', nil) m:set 'c' assert(not m:has 'c')\n"
          "assert(m:incr 'n' == 1 and m:incr('n', 2.5) == 3.5 and m:incr('n', -4) == -0.5)\n"
          "m:set(1, 'one') assert(m:get '1' == 'one' and m:get(1) == 'one')\n"
          "m:set(true, 'yes') assert(m:get 'true' == 'yes')\n"
          "m:set('zero\\0byte', 'a\\0b') assert(m:get 'zero\\0byte' == 'a\\0b')\n"
          "local seen = {} for k, v in m:pairs() do seen[k] = v end\n"
          "assert(seen.a == 'text' and seen['1'] == 'one' and seen.n == -0.5)\n"
          "m:clear() assert(m:count() == 0 and m:pairs()(m) == nil)");
}

static void walks_stand_changes(void **state)
{
    struct fixture *f = *state;
    check(f, "local m = jet.map 'm'\nlocal s = jet.set 's'",
          "for i = 1, 1000 do m:set(i, i) s:add(tostring(i)) end\n"
          "local n = 0\n"
          "for k, v in m:pairs() do n = n + 1 m:remove(k) m:set('x' .. (v % 7), 0) end\n"
          "assert(n >= 1000 and n <= 1007 and m:count() <= 7)\n"
          "for i = 1, 1000 do m:set(i, i) end\n"
          "n = 0 for k in m:pairs() do n = n + 1 if n == 10 then m:clear() end end\n"
          "assert(n == 10)\n"
          "n = 0 for k in s:pairs() do n = n + 1 s:remove(k) end\n"
          "assert(n == 1000 and s:count() == 0)\n"
          "for i = 1, 100 do s:add(tostring(i)) end\n"
          "n = 0 for k in s:pairs() do n = n + 1 if n == 10 then s:clear() end end\n"
          "assert(n == 10)\n"
          "local next, map = m:pairs()\n"
          "assert((next(map, 'nothing like it')) ~= 7)");
}

static void zsets(void **state)
{
    struct fixture *f = *state;
    check(f, "local z = jet.zset('z', { max = 4 })",
          "z:set('a', 1) z:set('b', 3) assert(z:incr 'c' == 1 and z:incr('c', 1) == 2)\n"
          "assert(z:score 'b' == 3 and z:score 'x' == nil and z:count() == 3)\n"
          "assert(z:rank 'b' == 1 and z:rank 'c' == 2 and z:rank 'a' == 3 and z:rank 'x' == nil)\n"
          "local t = z:top()\n"
          "assert(#t == 3 and t[1].key == 'b' and t[1].score == 3 and t[3].key == 'a')\n"
          "t = z:top(1, 1) assert(#t == 1 and t[1].key == 'c')\n"
          "assert(#z:top(5, 3) == 0 and #z:top(0) == 0)\n"
          "t = z:range(1, 2) assert(#t == 2 and t[1].key == 'a' and t[2].key == 'c')\n"
          "t = z:range(-math.huge, math.huge, 1) assert(#t == 1 and t[1].key == 'a')\n"
          "assert(select('#', z:score 'no') == 1 and select('#', z:rank 'no') == 1)\n"
          "assert(not pcall(z.range, z, 0/0, 1) and not pcall(z.range, z, 1, 0/0))\n"
          "z:set('d', 9) z:set('e', 8) assert(z:count() == 4 and z:score 'a' == nil)\n"
          "assert(z:remove 'd' and not z:remove 'd')\n"
          "z:clear() assert(z:count() == 0 and #z:top() == 0)");
}

static void tops(void **state)
{
    struct fixture *f = *state;
    check(f, "local t = jet.top('t', { k = 10, window = '10m' })",
          "for i = 1, 10 do t:add('k' .. i, i) end t:add 'k10'\n"
          "local l = t:list(3)\n"
          "assert(#l == 3 and l[1].key == 'k10' and l[1].count == 11 and l[1].error == 0)\n"
          "assert(l[2].key == 'k9' and #t:list() == 10)\n"
          "t:clear() assert(#t:list() == 0)");
}

static void sets(void **state)
{
    struct fixture *f = *state;
    fixture_file(f, "vips.txt", "# of the house\ndid:web:a\ndid:web:b # second\n");
    check(f,
          "local s = jet.set('vips', { file = 'vips.txt' })\n"
          "local list = jet.set('colours', { 'red', 'green' })\n"
          "local own = jet.set { 'x', 'y' }\nlocal again = jet.set 'vips'",
          "assert(s:has 'did:web:a' and s:has 'did:web:b' and s:count() == 2)\n"
          "assert(list:has 'red' and not list:has 'blue' and own:has 'x' and own:count() == 2)\n"
          "assert(s:add 'c' and not s:add 'c' and again:has 'c' and again:remove 'c')\n"
          "assert(not s:has 'c' and not s:remove 'c')\n"
          "local n = 0 for m in own:pairs() do n = n + 1 assert(m == 'x' or m == 'y') end\n"
          "assert(n == 2) own:clear() assert(own:count() == 0)");
    /* Another script, and C, see the same set; a private one is nobody else's. */
    struct mj_set *vips = mj_sets_get(mj_store_sets(mj_scripts_store(f->scripts)), MJ_SPAN("vips"));
    assert_int_equal(mj_set_add(vips, MJ_SPAN("live")), 1);
    check(f, "local s, own = jet.set 'vips', jet.set {}",
          "assert(s:has 'live' and s:count() == 3 and own:count() == 0)");
    mj_set_unref(vips);
}

static void misuse(void **state)
{
    struct fixture *f = *state;
    static const char *const declared[][2] = {
        {"jet.map()", "jet.map wants a name first, not no value"},
        {"jet.map(7)", "jet.map wants a name first, not number"},
        {"jet.map 'a-b'", "jet.map: 'a-b' cannot be a name"},
        {"jet.map '2026'",
         "'2026' cannot be a name: up to 64 letters, digits and '_', and no digit"},
        {"jet.map('a', { mx = 1 })", "jet.map has no option 'mx'; did you mean 'max'?"},
        {"jet.map('a', { max = 0 })", "'max' wants a whole number"},
        {"jet.map('a', { max = 1.5 })", "'max' wants a whole number"},
        {"jet.map('a', { ttl = 5 })", "'ttl' wants a duration as text"},
        {"jet.map('a', { ttl = '0s' })", "a 'ttl' of 0 would keep nothing"},
        {"jet.map('a', { persist = 1 })", "'persist' is true or false"},
        {"jet.map 'a' jet.zset 'a'", "jet.zset: 'a' is declared already, as a map"},
        {"jet.map 'a' jet.map('a', { max = 3 })", "declared already, with other options"},
        {"jet.top('a', { k = 2000 })", "'k' wants a whole number"},
        {"jet.top('a', { window = '0s' })", "a 'window' of 0 would keep nothing"},
        {"jet.top('a', { windw = '1h' })", "did you mean 'window'?"},
        {"jet.map('a'):set('x', 1)", "map:set works in functions"},
        {"jet.set('a'):has 'x'", "set:has works in functions"},
        {"jet.set { 'a', 2 }", "jet.set: member 2 is number, not a text"},
        {"jet.set { 'a', '' }", "jet.set: member 2 is empty"},
        {"jet.set { 'a', max = 2 }", "members or options, not both"},
        {"jet.set({ 'a' }, { max = 2 })", "a set without a name is a list and nothing else"},
        {"jet.set('a', { file = 'no.txt' })", "there is no file 'no.txt' beside the script"},
        {"jet.set('a', { file = '/etc/passwd' })", "outside the script's folder"},
        {"jet.set('a', { file = '../x' })", "there is no file '../x' beside the script"},
        {"jet.set('a', { file = 3 })", "file is the name of a file, not number"},
        {"jet.set('a', { 'x' }) jet.set('a', { 'y' })", "set 'a' is declared already"}};
    for (size_t i = 0; i < MJ_COUNT(declared); i++)
        fixture_refuse(f, declared[i][0], declared[i][1]);
    static const char *const used[][2] = {
        {"m.get('a')", "call it with a colon: map:get(…)"},
        {"m.get(z, 'a')", "call it with a colon: map:get(…)"},
        {"m:get(nil)", "map:get: the key must be a text, a number or a boolean, not nil"},
        {"m:set({}, 1)", "map:set: the key must be a text, a number or a boolean, not table"},
        {"m:set('a', {})", "jet.json.encode makes a text of a table"},
        {"m:set('a', 1, 5)", "map:set wants a duration as text"},
        {"m:set('a', 1, '0s')", "a ttl of 0 would keep nothing"},
        {"m:set(('x'):rep(4097), 1)", "too long: a key has at most 4096 bytes, a text 65536"},
        {"m:set('a', ('x'):rep(65537))", "too long"},
        {"m:set('t', 'x') m:incr 't'", "map:incr: what is at 't' is no number"},
        {"m:incr('i', 1/0) m:incr('i', -1/0)", "the sum at 'i' would not be a number"},
        {"z:set('a', 0/0)", "the score of 'a' would not be a number"},
        {"z:set('a')", "number expected"},
        {"z:top(-1)", "zset:top: n is a whole number"},
        {"t:add('a', 0)", "n is a whole number, at least 1"},
        {"s:add ''", "set:add: the member is empty"},
        {"s:add(nil)", "set:add: the member must be a text"},
        {"jet.map 'late'", "draws the graph"},
        {"jet.set 'late'", "draws the graph"}};
    for (size_t i = 0; i < MJ_COUNT(used); i++) {
        MJ_AUTO_BUF body = {0};
        mj_buf_printf(&body,
                      "local ok, why = pcall(function() %s end)\nassert(not ok, 'no error')\n"
                      "assert(why:find(\"%s\", 1, true), why)",
                      used[i][0], used[i][1]);
        check(f, "local m, z, t, s = jet.map 'm', jet.zset 'z', jet.top 't', jet.set 's'",
              mj_buf_cstr(&body));
    }
}

/* A file's error names file and line, and the script does not load. */
static void files_with_errors(void **state)
{
    struct fixture *f = *state;
    MJ_AUTO_BUF text = {0};
    mj_buf_puts(&text, "fine\n\n");
    for (int i = 0; i < 5000; i++)
        mj_buf_putc(&text, 'x');
    fixture_file(f, "bad.txt", mj_buf_cstr(&text));
    fixture_refuse(f, "jet.set('a', { file = 'bad.txt' })",
                   "bad.txt: line 3: a member of 5000 bytes; at most 4096 are allowed");
    char path[256];
    snprintf(path, sizeof path, "%s/out.txt", f->dir);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    fixture_refuse(f, "jet.set('a', { file = 'out.txt' })", "outside the script's folder");
    assert_null(mj_sets_get(mj_store_sets(mj_scripts_store(f->scripts)), MJ_SPAN("a")));
}

/* A script whose memory is used up, in the middle of everything, leaves the state whole. */
static void under_memory_pressure(void **state)
{
    struct fixture *f = *state;
    f->cfg.memory = 4 << 20;
    fixture_load(f, "local m, z, s = jet.map 'm', jet.zset 'z', jet.set 's'\n"
                    "local full = false\n"
                    "local function fill()\n"
                    "  local keep = {}\n"
                    "  for i = 1, 1e7 do\n"
                    "    local k = ('%d%s'):format(i, ('x'):rep(200))\n"
                    "    m:set(k, k) z:set(k, i) s:add(k) keep[i] = k\n"
                    "    if i % 100 == 0 then keep[-i] = z:top(1000) end\n"
                    "  end\n"
                    "end\n"
                    "local function look()\n"
                    "  assert(m:count() > 100 and z:count() > 100 and s:count() > 100)\n"
                    "  local n = 0 for k, v in m:pairs() do assert(k == v) n = n + 1 end\n"
                    "  assert(n == m:count() and #z:top(10) == 10)\n"
                    "end\n"
                    "jet.from '*':where(function(ev)\n"
                    "  if full then return (pcall(look)) end\n"
                    "  full = not pcall(fill)\n"
                    "end):to(jet.stream 'ok')\n");
    /* What it filled is garbage after the first event, but not collected at once. */
    for (int i = 0; i < 1000 && !fixture_count(f, "ok"); i++)
        fixture_post(f, "hello");
    assert_int_equal(fixture_count(f, "ok"), 1);
}

static void gauges(void **state)
{
    struct fixture *f = *state;
    check(
        f,
        "local g, l = jet.gauge 'depth', jet.gauge('sizes', { 'what' })\n"
        "local again = jet.gauge 'depth'",
        "g:set(5) g:add(2) g:add(-3) g:add() again:add(1) l:set('a', 7) l:add('b', -2) l:add 'b'\n"
        "assert(not pcall(g.set, g))\n"
        "assert(select(2, pcall(g.set, g, 0/0)):find 'gauge')");
    MJ_AUTO_BUF text = {0};
    mj_metrics_render(&text);
    assert_non_null(strstr(mj_buf_cstr(&text), "# TYPE moonjet_script_depth gauge"));
    assert_non_null(strstr(mj_buf_cstr(&text), "moonjet_script_depth{script=\"s1.lua\"} 6\n"));
    assert_non_null(
        strstr(mj_buf_cstr(&text), "moonjet_script_sizes{script=\"s1.lua\",what=\"a\"} 7\n"));
    assert_non_null(
        strstr(mj_buf_cstr(&text), "moonjet_script_sizes{script=\"s1.lua\",what=\"b\"} -1\n"));
    fixture_refuse(f, "jet.gauge 'a-b'", "cannot name a gauge");
    fixture_refuse(f, "jet.counter 'depth'", "moonjet_script_depth is another kind of metric");
    check(f, "local g = jet.gauge 'share'", "g:set(0.1) g:add(0.25)");
    text.len = 0;
    mj_metrics_render(&text);
    assert_non_null(strstr(mj_buf_cstr(&text), "moonjet_script_share{script=\"s4.lua\"} 0.35\n"));
    fixture_refuse(f, "jet.gauge 'unused' jet.counter 'unused'", "is another kind of metric");
    fixture_refuse(f, "jet.counter 'slow_total'", "moonjet_script_slow_total is Moonjet's own");
    fixture_refuse(f, "jet.gauge 'heap_bytes'", "moonjet_script_heap_bytes is Moonjet's own");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {T(maps),
                                       T(walks_stand_changes),
                                       T(zsets),
                                       T(tops),
                                       T(sets),
                                       T(misuse),
                                       T(files_with_errors),
                                       T(under_memory_pressure),
                                       T(gauges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
