/* What scripts see of events, and what drafts do to records. Each case is Lua that asserts; the
 * event is a post with a bit of everything, or one of the other kinds. */
#include "unit/cbor_text.h"
#include "unit/script_fixture.h"

/* Keys in canonical order at every level. */
#define POST                                                                                       \
    "{n:9007199254740993,odd:[1,~,2],tags:[\"moon\"],text:\"Olá, lua!\",$type:\"app.bsky.feed."   \
    "post\",embed:{$type:\"app.bsky.embed.images\",images:[{alt:\"one\",image:{ref:L,size:5}},"    \
    "{alt:\"\",image:{ref:L,size:-6}}]},empty:[],langs:[\"pt\",\"en\"],reply:{parent:{cid:\"c\","  \
    "uri:\"at://p\"}},facets:[{features:[{did:\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",$type:"         \
    "\"app.bsky.richtext.facet#mention\"},{uri:\"https://a.example\",$type:\"app.bsky.richtext."   \
    "facet#link\"}]},{features:[{tag:\"Lua\",$type:\"app.bsky.richtext.facet#tag\"}]}],nested:{}," \
    "nothing:~,createdAt:\"2026-07-04T14:38:08.123Z\",signature:B}"

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

static void send(struct fixture *f, const char *record)
{
    struct mj_event ev =
        fixture_commit(f, "app.bsky.feed.post", MJ_OP_CREATE, cbor_text(&f->record, record));
    assert_int_equal(mj_router_event(f->router, &ev), 0);
}

/* Runs the body of a where on the post; it must come to true. */
static void check_on(struct fixture *f, const char *record, const char *body)
{
    MJ_AUTO_BUF source = {0};
    char stream[32];
    snprintf(stream, sizeof stream, "check%u", f->files);
    mj_buf_printf(&source,
                  "local function fails(part, f, ...)\n"
                  "  local ok, err = pcall(f, ...)\n"
                  "  assert(not ok, 'no error')\n"
                  "  assert(tostring(err):find(part, 1, true), tostring(err))\n"
                  "  return true\n"
                  "end\n"
                  "jet.from '*':where(function(ev)\n%s\nend):to(jet.stream '%s')\n"
                  "return fails\n",
                  body, stream);
    fixture_load(f, mj_buf_cstr(&source));
    fixture_skip(f);
    send(f, record);
    if (fixture_count(f, stream) != 1)
        fail_msg("%s", body);
}

static void check(void **state, const char *body) { check_on(*state, POST, body); }

static void scalars(void **state)
{
    check(state, "assert(ev.kind == 'commit' and ev.op == 'create')\n"
                 "assert(ev.did == '" FIXTURE_DID "')\n"
                 "assert(ev.collection == 'app.bsky.feed.post')\n"
                 "assert(ev.rkey == '3kgmi5fzxhc2l' and ev.rev == '3kgmi5g2bn22l')\n"
                 "assert(ev.uri == 'at://" FIXTURE_DID "/app.bsky.feed.post/3kgmi5fzxhc2l')\n"
                 "assert(#ev.cid == 59 and ev.cid:sub(1, 4) == 'bafy')\n"
                 "assert(ev.seq == 1 and ev.time == '2026-07-04T14:38:08.123Z')\n"
                 "assert(ev.time_us > 1.7e15 and ev.time_us % 1 == 0)\n"
                 "assert(ev.text == 'Olá, lua!')\n"
                 "assert(#ev.langs == 2 and ev.langs[1] == 'pt' and ev.langs[2] == 'en')\n"
                 "assert(ev.active == nil and ev.status == nil and ev.handle == nil)\n"
                 "assert(tostring(ev) == ev.uri)\n"
                 "return true");
}

static void records(void **state)
{
    check(state, "local r = ev.record\n"
                 "assert(r.text == ev.text and r.reply.parent.uri == 'at://p')\n"
                 "assert(r.langs[1] == 'pt' and r.langs[3] == nil and #r.langs == 2)\n"
                 "assert(r['$type'] == 'app.bsky.feed.post')\n"
                 "assert(r.nothing == jet.null and r.missing == nil)\n"
                 "assert(r.odd[2] == jet.null and #r.odd == 3 and #r.empty == 0)\n"
                 "assert(r.embed.images[2].image.size == -6)\n"
                 "assert(r.embed.images[1].image.ref['$link']:sub(1, 4) == 'bafy')\n"
                 "assert(r.signature['$bytes'] == 'AAEC/v8')\n"
                 "assert(r.langs.x == nil and r[1] == nil and r.langs[0] == nil)\n"
                 "assert(r.langs[1.5] == nil and r.langs['1'] == nil and r[true] == nil)\n"
                 "assert(tostring(r.odd) == '[1,null,2]' and tostring(r.nested) == '{}')\n"
                 "return true");
}

static void walking(void **state)
{
    check(state, "local keys = {}\n"
                 "for k in pairs(ev.record) do keys[#keys + 1] = k end\n"
                 "assert(#keys == 14 and keys[1] == 'n' and keys[14] == 'signature')\n"
                 "local n = 0\n"
                 "for i, v in ipairs(ev.record.langs) do n = n + i; assert(v == ev.langs[i]) end\n"
                 "assert(n == 3)\n"
                 "for i, v in pairs(ev.record.odd) do n = n + i; assert(v == (i == 2 and jet.null "
                 "or (i + 1) / 2 + (i == 3 and 0 or 0))) end\n"
                 "assert(n == 9)\n"
                 "for _ in ipairs(ev.record.reply) do error 'a map is no list' end\n"
                 "for _ in pairs(ev.record.empty) do error 'empty' end\n"
                 "local alts = {}\n"
                 "for image in ev:each 'embed.images' do alts[#alts + 1] = image.alt end\n"
                 "assert(#alts == 2 and alts[1] == 'one' and alts[2] == '')\n"
                 "for _ in ev:each 'embed' do error 'no list' end\n"
                 "for _ in ev:each 'not.there' do error 'absent' end\n"
                 "return true");
}

static void get_and_has(void **state)
{
    check(state,
          "assert(ev:get 'reply.parent.uri' == 'at://p')\n"
          "assert(ev:get 'embed.images[1].alt' == 'one' and ev:get 'embed.images.2.alt' == '')\n"
          "assert(ev:get 'nope' == nil and ev:get('nope', 7) == 7)\n"
          "assert(ev:get('text.deeper', 'd') == 'd' and ev:get('nothing', 1) == jet.null)\n"
          "assert(ev:get 'embed.images[1].image.ref.$link' == "
          "ev.record.embed.images[1].image.ref['$link'])\n"
          "assert(ev:get 'signature.$bytes' == 'AAEC/v8' and ev:get 'signature.$link' == nil)\n"
          "assert(ev:has 'nothing' and ev:has 'embed.images[2]' and not ev:has 'embed.images[3]')\n"
          "assert(ev:get ''.text == ev.text)\n"
          "fails('bad path', ev.get, ev, 'a..b')\n"
          "fails('bad path', ev.has, ev, 'a[0]')\n"
          "fails('string expected', ev.get, ev)\n"
          "fails('with a colon', ev.get, 'text')\n"
          "return true");
}

static void exact_integers(void **state)
{
    check(state, "assert(ev:int64 'n' == '9007199254740993')\n"
                 "assert(ev.record.n == 2^53)\n"
                 "assert(ev:int64 'embed.images[2].image.size' == '-6')\n"
                 "assert(ev:int64 'text' == nil and ev:int64 'nope' == nil)\n"
                 "return true");
    check_on(*state, "{a:9223372036854775807,b:-9223372036854775808}",
             "return ev:int64 'a' == '9223372036854775807' and "
             "ev:int64 'b' == '-9223372036854775808'");
}

static void tables_and_json(void **state)
{
    check(state, "local t = ev:table()\n"
                 "assert(t.text == ev.text and #t.odd == 3 and t.odd[2] == jet.null)\n"
                 "assert(t.reply.parent.cid == 'c' and type(t.embed) == 'table')\n"
                 "assert(ev:table 'langs'[2] == 'en' and ev:table 'text' == ev.text)\n"
                 "assert(ev:table 'nope' == nil)\n"
                 "local json = ev:json()\n"
                 "assert(json:find('\"n\":9007199254740993', 1, true))\n"
                 "assert(json:find('\"odd\":[1,null,2]', 1, true))\n"
                 "assert(json:find('\"nested\":{}', 1, true) and json:find('\"empty\":[]', 1, "
                 "true))\n"
                 "return true");
}

static void rich_text(void **state)
{
    check(state, "local function all(next) local t = {} for x in next do t[#t + 1] = x end return "
                 "table.concat(t, ' ') end\n"
                 "assert(all(ev:mentions()) == '" FIXTURE_DID "')\n"
                 "assert(all(ev:links()) == 'https://a.example')\n"
                 "assert(all(ev:tags()) == 'Lua moon')\n"
                 "return true");
    check_on(*state,
             "{facets:[1,{},{features:[~,{},{x:5},{tag:1,$type:\"app.bsky.richtext."
             "facet#tag\"}]},{features:7}]}",
             "for _ in ev:tags() do error 'odd facets' end return ev.text == '' and #ev.langs == "
             "0");
}

/* What strangers may send: a list of 200,000 facets. Quadratic code would take minutes. */
static void long_lists(void **state)
{
    struct fixture *f = *state;
    enum { N = 200000 };
    f->cfg.memory = 512 << 20;
    fixture_load(f, "jet.from '*':where(function(ev)\n"
                    "  local n, last = 0, nil\n"
                    "  for _ in ev:tags() do n = n + 1 end\n"
                    "  for v in ev:each 'facets' do n, last = n + 1, v end\n"
                    "  for _ in pairs(ev.record.facets) do n = n + 1 end\n"
                    "  return n == 3 * 200000 and last.features and #ev:table 'facets' == 200000\n"
                    "end):as 'long':to(jet.stream 'long')\n");
    f->record.len = 0;
    mj_cbor_put_map(&f->record, 1);
    put_text(&f->record, "facets");
    mj_cbor_put_array(&f->record, N);
    for (int i = 0; i < N; i++) {
        mj_cbor_put_map(&f->record, 1);
        put_text(&f->record, "features");
        mj_cbor_put_array(&f->record, 1);
        mj_cbor_put_map(&f->record, 2);
        put_text(&f->record, "tag");
        put_text(&f->record, "t");
        put_text(&f->record, "$type");
        put_text(&f->record, "app.bsky.richtext.facet#tag");
    }
    struct mj_event ev =
        fixture_commit(f, "app.bsky.feed.post", MJ_OP_CREATE, mj_buf_span(&f->record));
    ev.record_checked = true; /* the limits on sizes are for others to test */
    assert_int_equal(mj_router_event(f->router, &ev), 0);
    mj_router_flush(f->router, -1, 0);
    struct mj_metric *passed = mj_metric("moonjet_node_events_out_total", MJ_COUNTER, "",
                                         "script=\"s1.lua\",node=\"long\"");
    assert_int_equal(mj_metric_get(passed), 1);
}

static void read_only_where_it_should_be(void **state)
{
    check(state, "fails('edit the draft in a :map', function() ev.record.text = 'x' end)\n"
                 "fails('edit the draft in a :map', function() ev.text = 'x' end)\n"
                 "fails('use it in a :map', ev.set, ev, 'text', 'x')\n"
                 "fails('use it in a :map', ev.unset, ev, 'text')\n"
                 "fails(\"did you mean 'collection'\", function() return ev.colection end)\n"
                 "fails(\"did you mean 'get'\", function() return ev:gett 'text' end)\n"
                 "fails('under ev.record', function() return ev.createdAt end)\n"
                 "fails('walk ev.record', pairs, ev)\n"
                 "fails('at the top level', jet.from, '*')\n"
                 "fails('at the top level', jet.stream, 'x')\n"
                 "fails('at the top level', jet.counter, 'x')\n"
                 "fails('at the top level', require, 'x')\n"
                 "assert(getmetatable(ev) == 'event' and getmetatable(ev.record) == 'record')\n"
                 "return true");
}

static void handles_end_with_the_call(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local kept, part, each, first = nil, nil, nil, true\n"
                    "local out = {}\n"
                    "jet.from '*':where(function(ev)\n"
                    "  if first then\n"
                    "    first, kept, part, each = false, ev, ev.record.reply, ev:each 'langs'\n"
                    "    return false\n"
                    "  end\n"
                    "  local ok, err = pcall(function() return part.parent end)\n"
                    "  assert(not ok and err:find 'is gone', err)\n"
                    "  ok, err = pcall(each)\n"
                    "  assert(not ok and err:find 'is gone', err)\n"
                    "  return kept == ev\n"
                    "end):to(jet.stream 'second')\n");
    send(f, POST);
    send(f, POST);
    assert_int_equal(fixture_count(f, "second"), 1);
    fixture_refuse(f,
                   "local ev\njet.from '*':where(function(e) ev = e end):tap(print)\n"
                   "print(ev.text)",
                   "attempt to index");
}

/* A kept event reads as the call's did, as long as anything of it is used. */
static void kept_events(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local kept, part, each, json, uri\n"
                    "jet.from '*':where(function(ev)\n"
                    "  if not kept then\n"
                    "    kept, json, uri = ev:keep(), ev:json(), ev.uri\n"
                    "    assert(kept:keep() == kept and kept ~= ev)\n"
                    "    part, each = kept.record.reply, kept:each 'langs'\n"
                    "    return false\n"
                    "  end\n"
                    "  assert(kept:json() == json and kept.uri == uri and tostring(kept) == uri)\n"
                    "  assert(kept.text == ev.text and kept.record.text == ev.text)\n"
                    "  assert(getmetatable(kept) == 'event' and getmetatable(part) == 'record')\n"
                    "  assert(part.parent.uri == ev:get 'reply.parent.uri')\n"
                    "  assert(kept:get('reply').parent.uri == part.parent.uri)\n"
                    "  assert(each() == ev.langs[1])\n"
                    "  for k, v in pairs(kept.record) do assert(kept:has(k)) end\n"
                    "  local ok, why = pcall(function() kept.record.text = 'x' end)\n"
                    "  assert(not ok and why:find('cannot be changed', 1, true), why)\n"
                    "  kept = nil\n"
                    "  return true\n"
                    "end):to(jet.stream 'second')\n");
    /* A kept event is not the draft, wherever it is used; a kept draft is as it was then. */
    fixture_load(f, "local before\n"
                    "jet.from '*':map(function(d)\n"
                    "  if before then\n"
                    "    assert(before.text == 'EDITED' and before.cid == nil)\n"
                    "    local ok, why = pcall(before.set, before, 'text', 'x')\n"
                    "    assert(not ok and why:find('edits a draft', 1, true), why)\n"
                    "    ok, why = pcall(function() before.record = {} end)\n"
                    "    assert(not ok, why)\n"
                    "    ok, why = pcall(function() return before end)\n"
                    "    d.record.text = before.text .. '!'\n"
                    "    return d\n"
                    "  end\n"
                    "  d.record.text = 'EDITED'\n"
                    "  before = d:keep()\n"
                    "  d.record.text = 'LATER'\n"
                    "  return d\n"
                    "end):to(jet.stream 'kept')\n"
                    "jet.from '*':map(function(d) return d:keep() end):to(jet.stream 'wrong')\n");
    send(f, POST);
    send(f, POST);
    assert_int_equal(fixture_count(f, "second"), 1);
    assert_non_null(strstr(fixture_take(f, "kept"), "\"text\":\"EDITED!\""));
    assert_int_equal(fixture_count(f, "wrong"), 0);
}

/* What kept events take is the script's memory, and comes back. */
static void kept_events_count(void **state)
{
    struct fixture *f = *state;
    struct mj_metric *errors = mj_metric("moonjet_node_errors_total", MJ_COUNTER, "",
                                         "script=\"s1.lua\",node=\"where#1\"");
    int64_t before = mj_metric_get(errors);
    f->cfg.memory = 4 << 20;
    fixture_load(f, "local n, all = 0, {}\n"
                    "jet.from '*':where(function(ev)\n"
                    "  n = n + 1\n"
                    "  if n == 1 then for _ = 1, 1e5 do all[#all + 1] = ev:keep() end end\n"
                    "  if n == 2 then all = {} end\n"
                    "  for _ = 1, 1e5 do ev:keep() end\n" /* garbage */
                    "  for _ = 1, 1000 do all[#all + 1] = ev:keep() end\n"
                    "  return true\n"
                    "end):to(jet.stream 'kept')\n");
    for (int i = 0; i < 3; i++)
        send(f, POST);
    assert_int_equal(fixture_count(f, "kept"), 2);
    assert_int_equal(mj_metric_get(errors) - before, 1);
}

/* For tests of scripts: a handle put aside is always found out. */
static void strict_handles(void **state)
{
    struct fixture *f = *state;
    mj_scripts_strict(f->scripts);
    fixture_load(f, "local aside, record\n"
                    "jet.from '*':where(function(ev)\n"
                    "  if aside then\n"
                    "    local ok, why = pcall(function() return aside.did end)\n"
                    "    assert(not ok and why:find('earlier call', 1, true), why)\n"
                    "    ok, why = pcall(function() return record.text end)\n"
                    "    assert(not ok and why:find('is gone', 1, true), why)\n"
                    "    assert(aside ~= ev and tostring(aside) == 'event (gone)')\n"
                    "  end\n"
                    "  aside, record = ev, ev.record\n"
                    "  return ev.record.text == ev.text\n"
                    "end):to(jet.stream 'strict')\n"
                    "jet.from '*':map(function(d) d.record.text = 'm' return d end)"
                    ":to(jet.stream 'map')\n");
    send(f, POST);
    send(f, POST);
    assert_int_equal(fixture_count(f, "strict"), 2);
    assert_int_equal(fixture_count(f, "map"), 2);
}

static void other_kinds(void **state)
{
    struct fixture *f = *state;
    fixture_load(
        f, "jet.from '#identity':where(function(ev)\n"
           "  assert(ev.kind == 'identity' and ev.handle == 'moon.example.com' and ev.op == nil)\n"
           "  assert(ev.collection == nil and ev.record == nil and ev.uri == nil and ev.cid == "
           "nil)\n"
           "  assert(ev.text == '' and #ev.langs == 0 and ev:get('a', 1) == 1 and not ev:has 'a')\n"
           "  assert(ev:table() == nil and ev.active == nil and ev.status == nil)\n"
           "  assert(tostring(ev) == ev.did)\n"
           "  return true\n"
           "end):to(jet.stream 'identity')\n"
           "jet.from '#account':where(function(ev)\n"
           "  assert(ev.active == false and ev.status == 'takendown' and ev.handle == nil)\n"
           "  return true\n"
           "end):to(jet.stream 'account')\n"
           "jet.from '*:delete':where(function(ev)\n"
           "  assert(ev.op == 'delete' and ev.record == nil and ev.cid == nil and ev.rkey)\n"
           "  return true\n"
           "end):map(function(d)\n"
           "  local ok, err = pcall(d.set, d, 'a', 1)\n"
           "  assert(not ok and err:find('no record to edit', 1, true), err)\n"
           "  return d\n"
           "end):to(jet.stream 'delete')\n");
    struct mj_event identity = {.kind = MJ_KIND_IDENTITY,
                                .seq = 1,
                                .did = MJ_SPAN(FIXTURE_DID),
                                .time = MJ_SPAN("2026-07-04T14:38:08.123Z"),
                                .handle = MJ_SPAN("moon.example.com")};
    struct mj_event account = identity;
    account.kind = MJ_KIND_ACCOUNT;
    account.handle = mj_span(NULL, 0);
    account.status = MJ_SPAN("takendown");
    struct mj_event delete = fixture_commit(f, "app.bsky.feed.post", MJ_OP_DELETE, account.handle);
    assert_int_equal(mj_router_event(f->router, &identity), 0);
    assert_int_equal(mj_router_event(f->router, &account), 0);
    assert_int_equal(mj_router_event(f->router, &delete), 0);
    assert_int_equal(fixture_count(f, "identity"), 1);
    assert_int_equal(fixture_count(f, "account"), 1);
    assert_int_equal(fixture_count(f, "delete"), 1);
    assert_int_equal(fixture_count(f, "main"), 3);
}

/* Runs the body of a map on a record; the stream's event must carry exactly the other record. */
static void edit_on(void **state, const char *before, const char *body, const char *after)
{
    struct fixture *f = *state;
    MJ_AUTO_BUF source = {0}, want = {0}, record = {0};
    char stream[32];
    snprintf(stream, sizeof stream, "edit%u", f->files);
    mj_buf_printf(&source, "jet.from '*':map(function(d)\n%s\nreturn d end):to(jet.stream '%s')\n",
                  body, stream);
    fixture_load(f, mj_buf_cstr(&source));
    fixture_skip(f);
    send(f, before);
    mj_buf_puts(&want, "\"record\":");
    assert_int_equal(mj_json_from_cbor(cbor_text(&record, after), &want), 0);
    mj_buf_puts(&want, strcmp(before, after) ? "}}\n" : ",\"cid\":");
    const char *out = fixture_take(f, stream);
    if (!strstr(out, mj_buf_cstr(&want)))
        fail_msg("%s\nwanted %s\ngot %s", body, mj_buf_cstr(&want), out);
}

static void drafts(void **state)
{
    edit_on(state, POST, "", POST);
    edit_on(state, "{text:\"a\"}", "d.record.text = 'b'", "{text:\"b\"}");
    edit_on(state, "{text:\"a\"}", "d:set('text', 'b')", "{text:\"b\"}");
    edit_on(state, "{a:{x:1},text:\"a\"}", "d:set('a.b.c', 5) d:set('m.n', d.record.a)",
            "{a:{b:{c:5},x:1},m:{n:{b:{c:5},x:1}},text:\"a\"}");
    edit_on(state, "{i:[{}]}", "d:set('i[1].p.q', 'x') d:set('i[2].p', 'y')",
            "{i:[{p:{q:\"x\"}},{p:\"y\"}]}");
    edit_on(state, "{text:\"a\"}", "d:unset 'text'", "{}");
    edit_on(state, "{text:\"a\"}", "d.record.text = nil", "{}");
    edit_on(state, "{text:\"a\"}", "d:unset 'nope'", "{text:\"a\"}");
    edit_on(state, "{}",
            "d.record.a, d.record.b = true, jet.null\n"
            "d.record.c = { 1, 'x', { y = false } }",
            "{a:t,b:~,c:[1,\"x\",{y:f}]}");
    edit_on(state, "{}", "d.record.a = jet.array{} d.record.b = jet.object{}", "{a:[],b:{}}");
    edit_on(state, "{}", "d.record.m = { bb = 1, a = 2, ['$type'] = 'x' }",
            "{m:{a:2,bb:1,$type:\"x\"}}");
    edit_on(state, "{}", "d.record = { z = 1 } d.record.y = d.record.z", "{y:1,z:1}");
    edit_on(state, "{a:{b:[1,2]}}", "d.record.c = d.record.a", "{a:{b:[1,2]},c:{b:[1,2]}}");
    edit_on(state, "{}", "d.record.n = 9007199254740991 d.record.m = -9007199254740991",
            "{m:-9007199254740991,n:9007199254740991}");
}

static void drafts_while_walking(void **state)
{
    edit_on(state, "{a:\"X\",b:\"Y\",n:1}",
            "for k, v in pairs(d.record) do\n"
            "  if type(v) == 'string' then d.record[k] = v:lower() .. v end\n"
            "end",
            "{a:\"xX\",b:\"yY\",n:1}");
    edit_on(state, "{i:[{alt:\"a\"},{alt:\"b\"}]}",
            "for image in d:each 'i' do image.alt = image.alt .. '!' image.seen = true end",
            "{i:[{alt:\"a!\",seen:t},{alt:\"b!\",seen:t}]}");
    edit_on(state, "{a:1,b:2,c:3}", "for k in pairs(d.record) do d.record[k] = nil end", "{}");
    edit_on(state, "{i:[{x:1},2]}",
            "local inner = d.record.i[1]\n"
            "d.record.a = 'pushes everything along'\n"
            "inner.x = 5\n"
            "d.record.i = nil\n"
            "local ok, err = pcall(function() return inner.x end)\n"
            "assert(not ok and err:find 'has been removed', err)",
            "{a:\"pushes everything along\"}");
}

static void round_trips(void **state)
{
    /* What comes out of ev:table goes back in as it was, null, [] and {} included. */
    edit_on(state, "{a:[1,~,2],b:{},c:[],d:{e:L,f:B},g:t}",
            "local t = d:table()\nt.g = false\nd.record = jet.object {}\nd.record = t",
            "{a:[1,~,2],b:{},c:[],d:{e:L,f:B},g:f}");
    edit_on(state, "{n:9007199254740993,odd:[1,~,2],empty:[],nested:{}}", "d.record.zzzzzzz = 1",
            "{n:9007199254740993,odd:[1,~,2],empty:[],nested:{},zzzzzzz:1}");
}

static void refused_edits(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *edit, *says;
    } cases[] = {
        {"d.record.a = {}", "neither a list nor a map"},
        {"d.record.a = 1.5", "not a whole number"},
        {"d.record.a = 2^53", "beyond 2^53"},
        {"d.record.a = 0/0", "beyond 2^53"},
        {"d.record.a = math.huge", "beyond 2^53"},
        {"d.record.a = d.record.n", "beyond 2^53"},
        {"d.record.a = { 1, nil, 3 }", "without holes"},
        {"local t = { 1, 2, 3 } t[2] = nil d.record.a = t", "list"},
        {"d.record.a = { 1, x = 2 }", "both kinds of keys"},
        {"d.record.a = { [1] = 1, [4] = 2 }", "without holes"},
        {"d.record.a = { [true] = 1 }", "boolean cannot be a key"},
        {"d.record.a = print", "function cannot be put"},
        {"d.record.a = d", "cannot be put into a record"},
        {"d.record.a = '\\255'", "not valid UTF-8"},
        {"d.record['\\255'] = 1", "not valid UTF-8"},
        {"local t = {} t[1] = t d.record.a = t", "contains itself"},
        {"d.record.a = { ['$link'] = 'nonsense' }", "text of a CID"},
        {"d.record.a = { ['$bytes'] = '!' }", "wants base64"},
        {"d.record.a = ('x'):rep(5e6)", "too large"},
        {"d.record.b.c = 1", "attempt to index"},
        {"d:set('langs.c', 1)", "what should hold it is not there"},
        {"d:set('langs[9].c', 1)", "what should hold it is not there"},
        {"d:set('b[1].c', 1)", "what should hold it is not there"},
        {"d:set('text.c', 1)", "neither a list nor a map"},
        {"d:set('langs[9]', 1)", "what should hold it is not there"},
        {"d:set 'a'", "value expected"},
        {"d:set('a', nil)", "draft:unset removes"},
        {"d:unset ''", "as a whole"},
        {"d.record[true] = 1", "a key is text"},
        {"d.record.langs[0] = 1", "a key is text"},
        {"d.record = 5", "must be a map"},
        {"d.record = { 1, 2 }", "must be a map"},
        {"d.record = d.record.langs", "must be a map"},
        {"d.text = 'x'", "draft.record.text"},
        {"d.did = 'x'", "only the record can be edited"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF source = {0};
        mj_buf_printf(&source,
                      "jet.from '*':map(function(d)\n"
                      "  local ok, err = pcall(function() %s end)\n"
                      "  if ok then error 'no error' end\n"
                      "  if not tostring(err):find(%s, 1, true) then error(err) end\n"
                      "  assert(d.text == 'Olá, lua!')\n"
                      "  return d\n"
                      "end):to(jet.stream 'r')\n",
                      cases[i].edit, "[[PART]]");
        char *at = strstr(mj_buf_cstr(&source), "[[PART]]");
        MJ_AUTO_BUF full = {0};
        mj_buf_put(&full, source.ptr, (size_t)(at - (char *)source.ptr));
        mj_buf_printf(&full, "[[%s]]%s", cases[i].says, at + 8);
        struct fixture one;
        fixture_open(&one);
        fixture_load(&one, mj_buf_cstr(&full));
        send(&one, POST);
        size_t n = fixture_count(&one, "r");
        /* Refused means unchanged: the event still shares main's entry. */
        bool shared = one.view.end - one.next == 1;
        fixture_close(&one);
        if (n != 1 || !shared)
            fail_msg("%s", cases[i].edit);
    }
    (void)f;
}

static void what_map_returns(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':map(function(d) return nil end):to(jet.stream 'a')\n"
                    "jet.from '*':map(function(d) end):to(jet.stream 'b')\n"
                    "jet.from '*':map(function(d) return true end):as 'm':to(jet.stream 'c')\n"
                    "jet.from '*':map(function(d) d:keep_cid() d.record.x = 1 return d end)\n"
                    "  :to(jet.stream 'd')\n");
    send(f, POST);
    assert_int_equal(fixture_count(f, "a"), 0);
    assert_int_equal(fixture_count(f, "b"), 0);
    assert_int_equal(fixture_count(f, "c"), 0);
    assert_int_equal(mj_metric_get(mj_metric("moonjet_node_errors_total", MJ_COUNTER, "",
                                             "script=\"s1.lua\",node=\"m\"")),
                     1);
    assert_non_null(strstr(fixture_take(f, "d"), "\"cid\":\"bafy"));
}

static void branches_do_not_share_edits(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local all = jet.from '*'\n"
                    "local a = all:map(function(d) d.record.text = 'A' return d end)\n"
                    "a:map(function(d) d.record.text = d.text .. '1' return d end)"
                    ":to(jet.stream 'a1')\n"
                    "a:map(function(d) d.record.text = d.text .. '2' return d end)"
                    ":to(jet.stream 'a2')\n"
                    "a:to(jet.stream 'a')\n"
                    "all:to(jet.stream 'all')\n");
    fixture_post(f, "x");
    assert_non_null(strstr(fixture_take(f, "a1"), "\"text\":\"A1\""));
    assert_non_null(strstr(fixture_take(f, "a2"), "\"text\":\"A2\""));
    assert_non_null(strstr(fixture_take(f, "a"), "\"text\":\"A\""));
    assert_non_null(strstr(fixture_take(f, "all"), "\"text\":\"x\""));
    assert_int_equal(f->view.end - f->next, 4); /* all shares main's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(scalars),
        T(records),
        T(walking),
        T(get_and_has),
        T(exact_integers),
        T(tables_and_json),
        T(rich_text),
        T(long_lists),
        T(read_only_where_it_should_be),
        T(other_kinds),
        T(handles_end_with_the_call),
        T(kept_events),
        T(kept_events_count),
        T(strict_handles),
        T(drafts),
        T(drafts_while_walking),
        T(round_trips),
        T(refused_edits),
        T(what_map_returns),
        T(branches_do_not_share_edits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
