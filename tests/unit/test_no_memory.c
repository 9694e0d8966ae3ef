/* Memory that runs out at any moment, wherever a script's own may: its calls fail, and nothing
 * else. Every allocation of a VM is refused once, alone and with all that follow it. */
#include "unit/task_clock.h"

#include "script/scripts.h"

static lua_Alloc inner;
static long left; /* allocations until one is refused; 0 = none is */
static bool for_good;
static long refused;

/* What is done without the cap must succeed. */
static void *failing(void *ud, void *ptr, size_t old, size_t size)
{
    const struct mj_vm *vm = ud;
    if (left && size > old && vm->cap != SIZE_MAX) {
        if (left == 1) {
            refused++;
            if (!for_good)
                left = 0;
            return NULL;
        }
        left--;
    }
    return inner(ud, ptr, old, size);
}

static struct fixture *F;
static uint64_t tickets[16];
static size_t ticket_count;

static void on_fetch(void *ctx, uint64_t ticket, const struct mj_fetch *request)
{
    (void)ctx;
    (void)request;
    if (ticket_count < MJ_COUNT(tickets))
        tickets[ticket_count++] = ticket;
}

static void on_resolve(void *ctx, uint64_t ticket, struct mj_span who, enum mj_resolve how)
{
    (void)ctx;
    (void)who;
    (void)how;
    if (ticket_count < MJ_COUNT(tickets))
        tickets[ticket_count++] = ticket;
}

static void answer(void)
{
    struct mj_fetched a = {.status = 200,
                           .headers = MJ_SPAN("content-type: application/json\r\nx: y\r\n"),
                           .body = MJ_SPAN("{\"a\":[1,2,{\"b\":null}],\"did\":\"did:plc:bot\","
                                           "\"accessJwt\":\"e30.e30.x\","
                                           "\"refreshJwt\":\"e30.e30.y\","
                                           "\"uri\":\"at://a/b/c\",\"cid\":\"d\"}")};
    for (size_t i = 0; i < ticket_count; i++)
        mj_scripts_fetched(F->scripts, tickets[i], &a);
    ticket_count = 0;
}

static int served;
static void on_served(void *ctx, int status, struct mj_span headers, struct mj_span body)
{
    (void)ctx;
    (void)headers;
    (void)body;
    (void)status;
    served++;
}

static const char script[] =
    "local q = jet.queue(2)\n"
    "local n = jet.counter('n', { 'a' })\n"
    "local g = jet.gauge('g')\n"
    "local m = jet.map('m', { max = 10, ttl = '1h' })\n"
    "local z = jet.zset('z', { max = 10 })\n"
    "local s = jet.set('s')\n"
    "local top = jet.top('top', { k = 10, window = '1h' })\n"
    "local w = jet.words { 'hello', 'tree' }\n"
    "local kept\n"
    "local function use(ev)\n"
    "  local x = { ev.kind, ev.op, ev.did, ev.collection, ev.uri, ev.cid, ev.text, ev.langs,\n"
    "    tostring(ev), tostring(ev.record), ev.seq, ev.time }\n"
    "  for _, v in pairs(ev.record) do x[#x + 1] = tostring(v) end\n"
    "  for v in ev:each 'list' do x[#x + 1] = v end\n"
    "  for v in ev:mentions() do x[#x + 1] = v end\n"
    "  x[#x + 1] = ev:table()\n"
    "  x[#x + 1] = ev:get 'list[1]'\n"
    "  x[#x + 1] = ev:int64 'n'\n"
    "  x[#x + 1] = ev:json()\n"
    "  x[#x + 1] = ev:contains(w)\n"
    "  kept = ev:keep()\n"
    "  local p = kept.record.list\n"
    "  x[#x + 1] = p and #p\n"
    "  x[#x + 1] = (ev.text:gsub('%w+', function(c) return c .. c end))\n"
    "  for a, b in ev.text:gmatch '(%w)(%w)' do x[#x + 1] = a .. b end\n"
    "  x[#x + 1] = jet.json.encode { a = { 1, 2, { b = jet.null } }, ev = ev.record }\n"
    "  x[#x + 1] = jet.json.decode '{\"a\":[1,\"\\\\u00e4\",{}]}'\n"
    "  m:set(ev.text, 'b')\n"
    "  x[#x + 1] = m:get(ev.text)\n"
    "  z:set(ev.text, 2)\n"
    "  s:add(ev.did)\n"
    "  top:add(ev.text)\n"
    "  x[#x + 1] = top:list(3)\n"
    "  n:inc(ev.text)\n"
    "  g:set(2)\n"
    "  local co = coroutine.wrap(function(a) return coroutine.yield(a .. 'x') end)\n"
    "  x[#x + 1] = co 'b'\n"
    "  local rich = jet.richtext(ev.text .. ' @a.test #x https://x.y/' .. ev.text)\n"
    "  x[#x + 1] = { rich:split { max = 20 }, rich:facets(), jet.graphemes(rich.text) }\n"
    "  jet.log.debug('%s', ev.text)\n"
    "  return x\n"
    "end\n"
    "jet.from '*':where(function(ev)\n"
    "  local x = use(ev)\n"
    "  q:put(x)\n"
    "  jet.spawn(function(a) jet.sleep '1ms' q:put(a) end, ev.text)\n"
    "  if ev.text:find 'number' then error(12.5 + ev.seq, 0) end\n"
    "  if ev.text:find 'table' then error({}) end\n"
    "  return true\n"
    "end):map(function(d)\n"
    "  d.record.list = { 'a', 'b' }\n"
    "  d.record.list[1] = d.record.text .. 'x'\n"
    "  for k, v in pairs(d.record) do d:set('deep', jet.object { [k] = v }) end\n"
    "  d:unset 'deep'\n"
    "  return d\n"
    "end):dedupe { by = function(ev) return ev.seq end, within = '1m' }:to(jet.stream 'o')\n"
    "jet.from '*':each(function(ev)\n"
    "  local x = use(ev)\n"
    "  local a = jet.http.post('https://example.com', { a = ev.text })\n"
    "  local b = a and jet.json.decode(a.body)\n"
    "  local c = jet.http.get('https://example.com', { headers = { ['X-A'] = 'b' } })\n"
    "  q:put(ev.did)\n"
    "  pcall(error, 'x')\n"
    "  coroutine.wrap(function() jet.sleep '1ms' end)()\n"
    "  if ev.text:find 'number' then error(12.5 + ev.seq, 0) end\n"
    "end, { workers = 2, queue = 4, timeout = '10s' })\n"
    "jet.from '*':batch { max = 2, every = '5ms' }:each(function(evs)\n"
    "  for i = 1, #evs do use(evs[i]) end\n"
    "end)\n"
    "jet.every('3ms', function() while q:get '0s' do end end)\n"
    "jet.serve('GET /x', function(r) jet.sleep '1ms'\n"
    "  return 200, { q = r.query, h = r.headers }, { ['X-A'] = 'b' } end)\n"
    "jet.on_stop(function() jet.sleep '1ms' q:put 'end' end)\n";

/* An agent, whose sessions end again and again. */
static const char agent[] =
    "local me = jet.agent { did = 'did:plc:bot', password = 'secret', service = 'https://p.test' "
    "}\n"
    "jet.from { did = jet.no(me.account) }:each(function(ev)\n"
    "  me:create('app.bsky.feed.post', { text = ev.text }, { priority = 'high' })\n"
    "  me:get('a.b.c', { q = { ev.text, 2 } }, { timeout = '5s' })\n"
    "  me:delete('at://did:plc:bot/a.b.c/x')\n"
    "end, { timeout = '10s', workers = 4 })\n"
    "jet.serve('GET /x', function(r) return tostring(me:login()) end)\n"
    "jet.every('4ms', function() me:put('a.b.c', 'x', {}) end)\n";

/* Hundreds of errors are meant to be reported here. */
static void on_log(void *ctx, enum mj_log_level level, const char *tag, const char *text)
{
    (void)ctx;
    (void)level;
    (void)tag;
    (void)text;
}

static void go(struct fixture *f, int round)
{
    static const struct mj_route_request request = {.method = MJ_SPAN("GET"),
                                                    .path = MJ_SPAN("/x"),
                                                    .query = MJ_SPAN("a=b&c=%41"),
                                                    .headers = MJ_SPAN("host: x\r\n")};
    char text[64];
    /* New texts each time: what is interned already needs no memory. */
    snprintf(text, sizeof text, "hello %d %s", round, round % 3 ? "number" : "words");
    fixture_post(f, text);
    mj_scripts_serve(f->scripts, &request, on_served, NULL);
    for (int i = 0; i < 4; i++) {
        advance(f, 2500);
        answer();
    }
}

static void refuse_each(struct fixture *f, const char *text)
{
    refused = 0;
    static struct mj_services with_net;
    with_net = services;
    with_net.fetch = on_fetch;
    with_net.resolve = on_resolve;
    mj_scripts_set_services(f->scripts, &with_net);
    mj_scripts_lenient(f->scripts);
    fixture_load(f, text);
    struct mj_vm *vm = f->scripts->scripts[0]->vm;
    lua_State *L = vm->L;
    void *ud;
    inner = lua_getallocf(L, &ud);
    lua_setallocf(L, failing, ud);
    int round = 0;
    for (int all = 0; all < 2; all++) {
        long before = -1;
        for (long n = 1; refused != before; n++) {
            before = refused;
            left = n;
            for_good = all;
            go(f, round++);
            left = 0;
            go(f, round++);
        }
    }
    assert_true(refused > 100);
    assert_true(served > 0);
    left = 5;
    for_good = true;
    mj_scripts_stop(f->scripts, 1000000);
    advance(f, 2000000);
    left = 0;
    lua_setallocf(L, inner, ud);
}

static void a_refused_allocation_fails_a_call(void **state) { refuse_each(F = *state, script); }
static void or_a_call_of_an_agent(void **state) { refuse_each(F = *state, agent); }

/* The same by the cap itself, which also meets what happens before anything runs. */
static void try_caps(struct fixture *f, const char *text, size_t step)
{
    unsigned loaded = 0, refused_to = 0;
    mj_scripts_lenient(f->scripts);
    for (size_t cap = 64 << 10; loaded < 20; cap += loaded ? 3001 : step) {
        f->cfg.memory = cap;
        if (fixture_try(f, text) == 0) {
            loaded++;
            for (int i = 0; i < 10; i++)
                go(f, i);
        } else {
            refused_to++;
            assert_true(f->error.len > 0);
        }
    }
    assert_true(refused_to > 10);
}

static void any_cap_will_do(void **state) { try_caps(F = *state, script, 499); }
static void also_for_an_agent(void **state) { try_caps(F = *state, agent, 4999); }

int main(void)
{
    mj_log_capture(on_log, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_refused_allocation_fails_a_call, setup, teardown),
        cmocka_unit_test_setup_teardown(or_a_call_of_an_agent, setup, teardown),
        cmocka_unit_test_setup_teardown(any_cap_will_do, setup, teardown),
        cmocka_unit_test_setup_teardown(also_for_an_agent, setup, teardown),
    };
    return cmocka_run_group_tests_name("no_memory", tests, NULL, NULL);
}
