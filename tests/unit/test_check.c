/* What `moonjet check` finds odd, script by script. */
#include "script_fixture.h"

#include "flow/lint.h"

/* Loads the sources as s1.lua, s2.lua, … and expects exactly those lines. */
static void expect(const char *const *sources, size_t n, const char *want)
{
    struct fixture f;
    MJ_AUTO_BUF out = {0};
    const struct mj_graph *graphs[8];
    fixture_open(&f);
    f.cfg.lint = f.cfg.made_up_secrets = true;
    for (size_t i = 0; i < n; i++) {
        if (fixture_try(&f, sources[i]))
            fail_msg("%s: %s", sources[i], mj_buf_cstr(&f.error));
        mj_scripts_unused(f.scripts, i, &out);
        graphs[i] = mj_scripts_graph(f.scripts, i);
    }
    mj_lint(graphs, n, &out);
    if (!mj_span_is(mj_buf_span(&out), want))
        fail_msg("%s\nwanted:\n%sgot:\n%s", sources[0], want, mj_buf_cstr(&out));
    fixture_close(&f);
}

#define ONE(source, want) expect((const char *const[]){source}, 1, want)

static void test_fine(void **state)
{
    (void)state;
    ONE("jet.from('*'):to(jet.stream 'a')", "");
    ONE("jet.from { collection = { 'app.bsky.feed.*', jet.prefix 'com.' }, op = jet.no 'delete' }\n"
        "  :where('com.example.thing:update'):to(jet.stream 'a')",
        "");
    ONE("jet.from { collection = jet.prefix 'app.bs' }:where 'app.bsky.feed.post':to(jet.print())",
        "");
    ONE("jet.from(jet.no 'app.bsky.feed.*'):where 'app.bsky.graph.*':to(jet.print())", "");
    ONE("jet.from(jet.no { collection = 'app.bsky.feed.like' }):where '#account':to(jet.print())",
        "");
    ONE("jet.from { did = { 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' } }:to(jet.print())", "");
    ONE("jet.main():where(jet.no 'app.bsky.graph.block'):where '*:create'", "");
    ONE("local out = jet.stream 'a'\njet.from '*':to(out)\njet.from(out):tap(print)", "");
    ONE("local key = jet.secret 'KEY'\njet.from '*':tap(function() return key end)", "");
    /* What is made up is a key and an address, too. */
    ONE("local l = jet.labeler { did = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz', key = jet.secret 'K' }\n"
        "jet.from '*':tap(function(ev) l:apply(ev, 'x') end)",
        "");
    ONE("jet.from '*':to(jet.webhook { url = jet.secret 'U', secret = jet.secret 'S' })", "");
    ONE("local n = jet.counter 'n'\njet.from '*':tap(function() n:inc() end)", "");
    /* Secrets are made up, and keep what wants a key from nothing. */
    ONE("local l = jet.labeler { hostname = 'labels.example.com', key = jet.secret 'KEY' }\n"
        "jet.from '*':tap(function(ev) l:apply(ev, 'x') end)",
        "");
    ONE("jet.from '*':to(jet.webhook { url = 'https://example.com/', secret = jet.secret 'KEY' })",
        "");
}

static void test_nowhere(void **state)
{
    (void)state;
    ONE("jet.from '*'",
        "s1.lua:1: what passes from#1 ends nowhere; give it a :to(…) or a :tap(…)\n");
    ONE("local a = jet.stream 'a'\nlocal p = jet.print()\njet.from '*':to(jet.stream 'a')",
        "s1.lua:1: jet.stream \"a\" leads nowhere: no flow goes :to it\n"
        "s1.lua:2: jet.print leads nowhere: no flow goes :to it\n");
    /* What works without a flow is no oversight. */
    ONE("jet.every('1h', function() end)", "");
    ONE("jet.spawn(function() end)", "");
    ONE("jet.serve('GET /x', function() return 'x' end)", "");
    ONE("-- nothing", "s1.lua: draws nothing; start with jet.from or jet.main\n");
}

static void test_never(void **state)
{
    (void)state;
    ONE("jet.from { kind = 'identity', op = 'create' }:to(jet.print())",
        "s1.lua:1: from#1 can match no event: { kind = \"identity\", op = \"create\" }\n");
    ONE("jet.from '#account':where 'app.bsky.feed.post':where '*:create':to(jet.print())",
        "s1.lua:1: where#1 can match no event that gets there: app.bsky.feed.post\n");
    ONE("jet.from 'app.bsky.feed.post'\n  :where 'app.bsky.feed.*:create'\n"
        "  :where 'app.bsky.feed.like':to(jet.print())",
        "s1.lua:3: where#2 can match no event that gets there: app.bsky.feed.like\n");
    ONE("jet.main():where '#identity':where '#account'",
        "s1.lua:1: where#2 can match no event that gets there: #account\n");
    /* Each branch is judged by itself. */
    ONE("local posts = jet.from 'app.bsky.feed.post'\nposts:where '*:create':to(jet.print())\n"
        "posts:where '#identity':to(jet.print())",
        "s1.lua:3: where#2 can match no event that gets there: #identity\n");
}

static void test_streams(void **state)
{
    (void)state;
    ONE("jet.from(jet.stream 'x'):to(jet.print())",
        "s1.lua:1: from#1 reads the stream x, which no flow feeds\n");
    expect((const char *const[]){"jet.from(jet.stream 'x'):to(jet.print())",
                                 "jet.from '*':to(jet.stream 'x')"},
           2, "");
}

static void test_unused(void **state)
{
    (void)state;
    /* What is made up is a key and an address, too. */
    ONE("local l = jet.labeler { did = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz', key = jet.secret 'K' }\n"
        "jet.from '*':tap(function(ev) l:apply(ev, 'x') end)",
        "");
    ONE("jet.from '*':to(jet.webhook { url = jet.secret 'U', secret = jet.secret 'S' })", "");
    ONE("local n = jet.counter 'n'\njet.from '*':tap(print)",
        "s1.lua:1: jet.counter \"n\" is used by nothing that runs on events or later\n");
    ONE("local function f() local n = jet.map 'seen' return n end\nlocal n = f()\n"
        "jet.from '*':tap(print)",
        "s1.lua:1: jet.map \"seen\" is used by nothing that runs on events or later\n");
    ONE("local a, b, c = jet.zset 'z', jet.top 't', jet.gauge 'g'\n"
        "jet.from '*':tap(function() b:add('x') end)",
        "s1.lua:1: jet.zset \"z\" is used by nothing that runs on events or later\n"
        "s1.lua:1: jet.gauge \"g\" is used by nothing that runs on events or later\n");
    ONE("local a, b = jet.queue(), jet.queue(5)\njet.from '*':tap(function() b:put(1) end)",
        "s1.lua:1: jet.queue is used by nothing that runs on events or later\n");
}

/* Positions of durable ends hang on their names. */
static void test_unnamed(void **state)
{
    (void)state;
    ONE("jet.from '*':each(print)", "");
    ONE("jet.from '*':each(print):as 'a'\njet.from '*':each(print)", "");
    ONE("jet.from '*':each(print)\njet.from '#identity':each(print)\n"
        "jet.from '#account':each(print)",
        "s1.lua:2: each#2 keeps its position under its number, and would go on at another one's "
        "if you put one in front of it; name them (:as \"…\")\n");
    ONE("local function hook(name)\n"
        "  return jet.webhook { url = 'https://example.com/', secret = jet.secret 'K', name = name "
        "}\n"
        "end\n"
        "jet.from '#identity':to(hook 'a')\njet.from '#account':to(hook 'b')",
        "");
    ONE("local function hook()\n"
        "  return jet.webhook { url = 'https://example.com/', secret = jet.secret 'K' }\n"
        "end\n"
        "jet.from '#identity':to(hook())\njet.from '#account':to(hook())",
        "s1.lua:5: webhook#2 keeps its position under its number, and would go on at another "
        "one's if you put one in front of it; name them (name = \"…\")\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fine),   cmocka_unit_test(test_nowhere),
        cmocka_unit_test(test_never),  cmocka_unit_test(test_streams),
        cmocka_unit_test(test_unused), cmocka_unit_test(test_unnamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
