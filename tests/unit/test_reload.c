/* Reload: what changes, what stays, and that no event is lost or doubled meanwhile. */
#include <unistd.h>

#include "base/clock.h"
#include "script/reload.h"
#include "script/scripts.h"
#include "unit/script_fixture.h"

#define FILES 3

struct bench {
    struct fixture f;
    char paths[FILES][128];
    struct mj_script_cfg cfgs[FILES];
    struct mj_script_spec specs[FILES];
    size_t count;
    struct mj_reload result;
    struct mj_buf report;
};

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    fixture_open(&b->f);
    for (size_t i = 0; i < FILES; i++) {
        snprintf(b->paths[i], sizeof b->paths[i], "%s/%c.lua", b->f.dir, "abc"[i]);
        b->cfgs[i] = b->f.cfg;
        b->specs[i] = (struct mj_script_spec){b->paths[i], &b->cfgs[i]};
    }
    b->count = FILES;
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    fixture_close(&b->f);
    mj_buf_deinit(&b->report);
    free(b);
    return 0;
}

static int reload(struct bench *b, bool all)
{
    MJ_AUTO_BUF before = {0};
    MJ_AUTO_BUF now = {0};
    b->report.len = 0;
    mj_scripts_fed(b->f.scripts, &before);
    int err = mj_scripts_reload(b->f.scripts, b->specs, b->count, all, &b->result, &b->report);
    mj_scripts_fed(b->f.scripts, &now);
    mj_reload_unfed(mj_buf_span(&before), mj_buf_span(&now), &b->report);
    return err;
}

static void expect(struct bench *b, unsigned kept, unsigned reloaded, unsigned added,
                   unsigned removed, unsigned failed)
{
    const struct mj_reload *r = &b->result;
    if (r->kept != kept || r->reloaded != reloaded || r->added != added || r->removed != removed ||
        r->failed != failed)
        fail_msg("kept %u, reloaded %u, added %u, removed %u, failed %u: %s", r->kept, r->reloaded,
                 r->added, r->removed, r->failed, mj_buf_cstr(&b->report));
}

static void reported(struct bench *b, const char *part)
{
    if (!strstr(mj_buf_cstr(&b->report), part))
        fail_msg("expected \"%s\" in \"%s\"", part, mj_buf_cstr(&b->report));
}

static void only_what_changed(void **state)
{
    struct bench *b = *state;
    struct fixture *f = &b->f;
    fixture_file(f, "a.lua", "jet.from '*':to(jet.stream 'a')");
    fixture_file(f, "b.lua", "local m = require 'm' jet.from '*':to(jet.stream(m))");
    fixture_file(f, "m.lua", "return 'b'");
    fixture_file(f, "c.lua", "jet.from '*':to(jet.stream(jet.config.name or 'c'))");
    assert_int_equal(reload(b, false), 0);
    expect(b, 0, 0, 3, 0, 0);
    fixture_post(f, "x");
    assert_int_equal(fixture_count(f, "a") + fixture_count(f, "b") + fixture_count(f, "c"), 3);

    struct mj_vm *vm = f->scripts->scripts[0]->vm;
    assert_int_equal(reload(b, false), 0);
    expect(b, 3, 0, 0, 0, 0);
    assert_int_equal(b->report.len, 0);
    fixture_file(f, "a.lua", "jet.from '*':to(jet.stream 'a')"); /* newer, and the same */
    reload(b, false);
    expect(b, 3, 0, 0, 0, 0);
    assert_ptr_equal(f->scripts->scripts[0]->vm, vm);

    fixture_file(f, "m.lua", "return 'b2'"); /* a module of b's */
    reload(b, false);
    expect(b, 2, 1, 0, 0, 0);
    reported(b, "b.lua: reloaded, 2 nodes");
    reported(b, "stream 'b' is fed by nobody any more: its subscribers stay, and get nothing");
    b->cfgs[2].config_lua = "{ name = 'd' }";
    reload(b, false);
    expect(b, 2, 1, 0, 0, 0);
    fixture_skip(f);
    fixture_post(f, "x");
    assert_int_equal(fixture_count(f, "a"), 1);
    assert_int_equal(fixture_count(f, "b"), 0);
    assert_int_equal(fixture_count(f, "b2"), 1);
    assert_int_equal(fixture_count(f, "c"), 0);
    assert_int_equal(fixture_count(f, "d"), 1);
    reload(b, true);
    expect(b, 0, 3, 0, 0, 0);

    b->count = 2;
    reload(b, false);
    expect(b, 2, 0, 0, 1, 0);
    reported(b, "c.lua: removed");
    fixture_skip(f);
    fixture_post(f, "x");
    assert_int_equal(fixture_count(f, "d"), 0);
    assert_int_equal(fixture_count(f, "a"), 1);
}

static void a_failure_keeps_what_runs(void **state)
{
    struct bench *b = *state;
    struct fixture *f = &b->f;
    b->count = 2;
    fixture_file(f, "a.lua", "jet.from '*':to(jet.stream 'a')");
    fixture_file(f, "b.lua", "jet.from(jet.stream 'a'):to(jet.stream 'b')");
    assert_int_equal(reload(b, false), 0);
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"jet.from '*'\n  :where(", "a.lua:2: "},
        {"jet.form '*'", "a.lua:1: jet has no 'form'; did you mean 'from'?"},
        {"jet.from(jet.stream 'b'):to(jet.stream 'a')", "would feed itself"},
        {"while true do end", "stopped after"},
        {"local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end", "not enough memory"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        b->cfgs[0].declare_us = strstr(cases[i].text, "do end") ? 50000 : 20000000;
        fixture_file(f, "a.lua", cases[i].text);
        assert_int_equal(reload(b, false), MJ_EINVAL);
        expect(b, 1, 0, 0, 0, 1);
        reported(b, cases[i].why);
        reported(b, "; the running one goes on");
        fixture_skip(f);
        fixture_post(f, "x");
        assert_int_equal(fixture_count(f, "a"), 1);
        assert_int_equal(fixture_count(f, "b"), 1);
    }
    unlink(b->paths[0]);
    assert_int_equal(reload(b, false), MJ_EINVAL);
    reported(b, "a.lua: no such file; the running one goes on");
    b->count = 3; /* c.lua is not there either */
    assert_int_equal(reload(b, false), MJ_EINVAL);
    expect(b, 1, 0, 0, 0, 2);
    reported(b, "c.lua: no such file; it does not run");
    assert_int_equal(mj_scripts_count(f->scripts), 2);
}

static const char *const suffix = "jet.main():map(function(d) d.record.text = d.text .. '%c' "
                                  "return d end) -- %d\n";

static void put_suffix(struct bench *b, int i, int version)
{
    char name[8], text[256];
    snprintf(name, sizeof name, "%c.lua", 'a' + i);
    snprintf(text, sizeof text, suffix, 'a' + i, version);
    fixture_file(&b->f, name, text);
}

static const char *one_text(struct fixture *f)
{
    fixture_skip(f);
    fixture_post(f, "-");
    return fixture_take(f, "main");
}

static void main_keeps_the_order_of_the_list(void **state)
{
    struct bench *b = *state;
    for (int i = 0; i < FILES; i++)
        put_suffix(b, i, 0);
    reload(b, false);
    assert_non_null(strstr(one_text(&b->f), "\"text\":\"-abc\""));
    put_suffix(b, 1, 1);
    reload(b, false);
    expect(b, 2, 1, 0, 0, 0);
    assert_non_null(strstr(one_text(&b->f), "\"text\":\"-abc\""));
    struct mj_script_spec first = b->specs[0];
    b->specs[0] = b->specs[2];
    b->specs[2] = first;
    reload(b, false);
    expect(b, 3, 0, 0, 0, 0);
    assert_non_null(strstr(one_text(&b->f), "\"text\":\"-cba\""));
    mj_scripts_quarantine(b->f.scripts, 1, 1);
    b->specs[2] = b->specs[0];
    b->specs[0] = first;
    put_suffix(b, 0, 1);
    reload(b, false);
    expect(b, 2, 1, 0, 0, 0);
    assert_non_null(strstr(one_text(&b->f), "\"text\":\"-ac\"")); /* b is still quarantined */
    /* A reload of the script itself forgives. */
    put_suffix(b, 1, 2);
    reload(b, false);
    assert_non_null(strstr(one_text(&b->f), "\"text\":\"-abc\""));
}

static void the_old_one_ends_in_peace(void **state)
{
    struct bench *b = *state;
    struct fixture *f = &b->f;
    struct mj_metric *ended = mj_metric("moonjet_script_ended", MJ_COUNTER, "", "script=\"a.lua\"");
    int64_t before = mj_metric_get(ended);
    b->count = 1;
    fixture_file(f, "a.lua",
                 "local c, q = jet.counter 'ended', jet.queue(10)\n"
                 "jet.on_stop(function() jet.sleep '1ms' c:inc() end)\n"
                 "jet.from '*':each(function(ev) jet.sleep '1ms' c:inc() end)\n");
    reload(b, false);
    fixture_post(f, "one");
    fixture_post(f, "two");
    fixture_file(f, "a.lua", "jet.from '*':to(jet.stream 'a')");
    reload(b, false);
    expect(b, 0, 1, 0, 0, 0);
    fixture_post(f, "three");
    assert_int_equal(fixture_count(f, "a"), 1);
    assert_int_equal(f->scripts->retired_count, 1);
    while (f->scripts->retired_count)
        mj_scripts_run(f->scripts, 1000);
    assert_int_equal(mj_metric_get(ended) - before, 3);
}

static void on_answer(void *ctx, int status, struct mj_span headers, struct mj_span body)
{
    (void)headers;
    (void)body;
    *(int *)ctx = status;
}

/* What the clock or a client has set going is finished, too. */
static void the_old_one_finishes_what_it_began(void **state)
{
    struct bench *b = *state;
    struct fixture *f = &b->f;
    struct mj_metric *ended = mj_metric("moonjet_script_ended", MJ_COUNTER, "", "script=\"a.lua\"");
    int64_t before = mj_metric_get(ended);
    struct mj_route_request request = {.method = MJ_SPAN("GET"), .path = MJ_SPAN("/x")};
    int status = 0;
    b->count = 1;
    fixture_file(f, "a.lua",
                 "local c = jet.counter 'ended'\n"
                 "local q = jet.queue(10)\n"
                 "jet.every('1ms', function() c:inc() q:get '20ms' c:inc() end)\n"
                 "jet.serve('GET /x', function() jet.sleep '20ms' return 'old' end)\n");
    reload(b, false);
    while (mj_metric_get(ended) == before)
        mj_scripts_run(f->scripts, 1000);
    mj_scripts_serve(f->scripts, &request, on_answer, &status);
    fixture_file(f, "a.lua", "jet.serve('GET /x', function() return 'new' end)");
    reload(b, false);
    expect(b, 0, 1, 0, 0, 0);
    assert_int_equal(status, 0);
    while (f->scripts->retired_count)
        mj_scripts_run(f->scripts, 1000);
    assert_int_equal(status, 200);
    assert_int_equal((mj_metric_get(ended) - before) % 2, 0);
}

static bool is_shown(const char *part)
{
    MJ_AUTO_BUF text = {0};
    mj_metrics_render(&text);
    return strstr(mj_buf_cstr(&text), part) != NULL;
}

/* A gauge tells what is, so it ends with its script; a counter tells what was. */
static void gauges_end_with_their_script(void **state)
{
    struct bench *b = *state;
    struct fixture *f = &b->f;
    static const char source[] =
        "local g, c = jet.gauge('told', { 'what' }), jet.counter 'seen_here'\n"
        "jet.from '*':tap(function(ev) g:set(ev.text, 5) c:inc() end)";
    b->count = 2;
    fixture_file(f, "a.lua", source);
    fixture_file(f, "b.lua", source);
    reload(b, false);
    fixture_post(f, "x");
    assert_true(is_shown("moonjet_script_told{script=\"a.lua\",what=\"x\"} 5\n"));
    reload(b, true); /* nothing has changed: what was told holds */
    assert_true(is_shown("moonjet_script_told{script=\"a.lua\",what=\"x\"} 5\n"));
    b->count = 1;
    reload(b, false);
    expect(b, 1, 0, 0, 1, 0);
    assert_true(is_shown("moonjet_script_told{script=\"a.lua\",what=\"x\"} 5\n"));
    assert_false(is_shown("moonjet_script_told{script=\"b.lua\""));
    assert_true(is_shown("moonjet_script_seen_here{script=\"b.lua\"} 1\n"));
    fixture_file(f, "a.lua", "jet.from '*':tap(function() end)");
    reload(b, false);
    assert_false(is_shown("moonjet_script_told"));
    /* When it comes back, it has nothing to tell yet. */
    b->count = 2;
    reload(b, false);
    assert_false(is_shown("moonjet_script_told{"));
    fixture_post(f, "y");
    assert_true(is_shown("moonjet_script_told{script=\"b.lua\",what=\"y\"} 5\n"));
    assert_false(is_shown("what=\"x\""));
    assert_true(is_shown("moonjet_script_seen_here{script=\"b.lua\"} 2\n"));
}

/* A name is taken for as long as a script has it, and not by one that did not load. */
static void names_of_metrics_are_given_back(void **state)
{
    struct bench *b = *state;
    struct fixture *f = &b->f;
    b->count = 1;
    fixture_file(f, "a.lua", "jet.counter 'undecided' error 'no'");
    reload(b, false);
    expect(b, 0, 0, 0, 0, 1);
    fixture_file(f, "a.lua", "local g = jet.gauge 'undecided' g:set(0.5) jet.from '*':tap(print)");
    reload(b, false);
    expect(b, 0, 0, 1, 0, 0);
    assert_true(is_shown("# TYPE moonjet_script_undecided gauge\n"
                         "moonjet_script_undecided{script=\"a.lua\"} 0.5\n"));
    fixture_file(f, "a.lua", "jet.counter 'undecided' jet.from '*':tap(print)");
    reload(b, false); /* the one that runs has it */
    expect(b, 0, 0, 0, 0, 1);
    b->count = 0;
    reload(b, false);
    b->count = 1;
    reload(b, false);
    expect(b, 0, 0, 1, 0, 0);
    assert_true(is_shown("# TYPE moonjet_script_undecided counter\n"));
    assert_false(is_shown("moonjet_script_undecided{"));
}

/* A quarantined script does nothing that one could wait for. */
static void nobody_waits_for_a_quarantined_one(void **state)
{
    struct bench *b = *state;
    struct fixture *f = &b->f;
    b->count = 1;
    fixture_file(f, "a.lua", "jet.on_stop(function() end)");
    reload(b, false);
    mj_scripts_quarantine(f->scripts, 0, 0);
    fixture_file(f, "a.lua", "jet.on_stop(function() jet.sleep '1ms' end)");
    reload(b, false);
    assert_int_equal(f->scripts->retired_count, 0);
    mj_scripts_quarantine(f->scripts, 0, 9);
    assert_true(mj_scripts_stop(f->scripts, 5000000));
}

static void what_is_out_comes_back_when_asked(void **state)
{
    struct bench *b = *state;
    struct fixture *f = &b->f;
    b->count = 1;
    fixture_file(f, "a.lua", "jet.from '*':tap(function() end):to(jet.stream 'a')");
    reload(b, false);
    mj_scripts_quarantine(f->scripts, 0, 0);
    fixture_post(f, "x");
    assert_int_equal(fixture_count(f, "a"), 0);
    reload(b, false);
    expect(b, 1, 0, 0, 0, 0);
    b->specs[0].revive = true;
    reload(b, false);
    expect(b, 0, 1, 0, 0, 0);
    fixture_post(f, "x");
    assert_int_equal(fixture_count(f, "a"), 1);
}

static long resident(void)
{
    long pages[2] = {0};
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &pages[0], &pages[1]), 2);
    fclose(file);
    return pages[1] * sysconf(_SC_PAGESIZE);
}

/* Every event is in every stream once, whatever is reloaded between any two of them; and memory
 * stays what it was. */
static void a_thousand_reloads_under_load(void **state)
{
    struct bench *b = *state;
    struct fixture *f = &b->f;
    size_t in_main = 0, in_a = 0, posts = 0;
    long before = 0;
    b->count = 2;
    for (int i = 0; i < 1000; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "local n = 0 jet.from '*':where(function(ev) n = n + 1 return true end)"
                 ":dedupe { by = 'text', within = '1h' }:to(jet.stream 'a') -- %d\n"
                 "jet.on_stop(function() n = nil end) jet.every('1h', function() end)",
                 i);
        fixture_file(f, "a.lua", text);
        put_suffix(b, 1, i);
        assert_int_equal(reload(b, false), 0);
        for (int k = 0; k < 5; k++) {
            snprintf(text, sizeof text, "post %d of %d", k, i);
            fixture_post(f, text);
            posts++;
        }
        /* What came before the reload is not let through again: state survives. */
        fixture_post(f, "post 0 of 0");
        mj_scripts_run(f->scripts, 1000);
        in_main += fixture_count(f, "main");
        in_a += fixture_count(f, "a");
        fixture_skip(f);
        assert_true(f->scripts->retired_count <= 2);
        if (i == 199)
            before = resident();
    }
    assert_int_equal(in_main, posts + 1000);
    assert_int_equal(in_a, posts);
    /* Sanitizers keep freed memory for a while. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    if (resident() > before + (8 << 20))
        fail_msg("%ld bytes have become %ld", before, resident());
#endif
    print_message("resident: %ld KiB, then %ld KiB\n", before / 1024, resident() / 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_what_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_keeps_what_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(main_keeps_the_order_of_the_list, setup, teardown),
        cmocka_unit_test_setup_teardown(the_old_one_ends_in_peace, setup, teardown),
        cmocka_unit_test_setup_teardown(the_old_one_finishes_what_it_began, setup, teardown),
        cmocka_unit_test_setup_teardown(gauges_end_with_their_script, setup, teardown),
        cmocka_unit_test_setup_teardown(names_of_metrics_are_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_waits_for_a_quarantined_one, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_out_comes_back_when_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_thousand_reloads_under_load, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
