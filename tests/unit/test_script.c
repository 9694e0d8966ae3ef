/* Scripts end to end: Lua source and events in, entries of the journal out. */
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "script/scripts.h"
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

static void assert_holds(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("expected \"%s\" in \"%s\"", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("did not expect \"%s\" in \"%s\"", part, text);
}

static void without_scripts_main_is_everything(void **state)
{
    struct fixture *f = *state;
    fixture_post(f, "hello");
    assert_holds(fixture_take(f, "main"), "\"text\":\"hello\"");
}

static void from_where_map_to(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local jet = require 'moonjet'\n"
                    "jet.from 'app.bsky.feed.post:create'\n"
                    "  :where(function(ev) return ev.text:find('moon', 1, true) end)\n"
                    "  :map(function(d) d.record.text = d.text:upper() return d end)\n"
                    "  :to(jet.stream 'moon')\n");
    fixture_post(f, "the sun");
    fixture_post(f, "the moon");
    assert_int_equal(fixture_count(f, "main"), 2);
    assert_int_equal(fixture_count(f, "moon"), 1);
    const char *out = fixture_take(f, "moon");
    assert_holds(out, "\"text\":\"THE MOON\"");
    assert_lacks(out, "\"cid\"");
    out = fixture_take(f, "main");
    assert_holds(out, "\"text\":\"the moon\"");
    assert_lacks(out, "THE MOON");
}

static void streams_share_an_unedited_event(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':to(jet.stream 'a', jet.stream 'b')\n");
    uint64_t before = f->view.end;
    fixture_post(f, "once");
    assert_int_equal(fixture_count(f, "a"), 1);
    assert_int_equal(fixture_count(f, "b"), 1);
    assert_int_equal(fixture_count(f, "main"), 1);
    assert_int_equal(f->view.end - before, 1);
}

static void main_is_one_line_through_all_scripts(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.main():where(function(ev) return ev.text ~= 'drop' end)\n"
                    "jet.main():map(function(d) d.record.text = d.text .. ' one' return d end)\n");
    fixture_load(f, "jet.main():map(function(d) d.record.text = d.text .. ' two' return d end)\n"
                    "  :to(jet.stream 'copy')\n"
                    "jet.from '*':to(jet.stream 'raw')\n");
    fixture_post(f, "drop");
    fixture_post(f, "keep");
    assert_int_equal(fixture_count(f, "main"), 1);
    assert_holds(fixture_take(f, "main"), "\"text\":\"keep one two\"");
    assert_holds(fixture_take(f, "copy"), "\"text\":\"keep one two\"");
    assert_int_equal(fixture_count(f, "raw"), 2);
    assert_lacks(fixture_take(f, "raw"), "one");
}

static void an_error_costs_one_event_in_one_flow(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':where(function(ev)\n"
                    "  if ev.text == 'bad' then error('no') end\n"
                    "  return true\n"
                    "end):as 'picky':to(jet.stream 'picky')\n"
                    "jet.from '*':to(jet.stream 'calm')\n");
    fixture_post(f, "bad");
    fixture_post(f, "good");
    assert_int_equal(fixture_count(f, "main"), 2);
    assert_int_equal(fixture_count(f, "calm"), 2);
    assert_int_equal(fixture_count(f, "picky"), 1);
    assert_int_equal(mj_metric_get(mj_metric("moonjet_node_errors_total", MJ_COUNTER, "",
                                             "script=\"s1.lua\",node=\"picky\"")),
                     1);
}

static void where_takes_a_match(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local all = jet.from '*'\n"
                    "all:where { op = 'create', collection = jet.no 'app.bsky.feed.like' }"
                    ":to(jet.stream 'yes')\n"
                    "all:where(jet.no '#commit'):to(jet.stream 'no')\n");
    fixture_post(f, "x");
    assert_int_equal(fixture_count(f, "yes"), 1);
    assert_int_equal(fixture_count(f, "no"), 0);
}

static void entries_say_what_they_hold(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*:create':to(jet.stream 'a')\n"
                    "jet.from '*':map(function(d) d.record.x = 1 return d end):to(jet.stream 'b')");
    fixture_post(f, "x");
    mj_router_flush(f->router, -1, 0);
    mj_view_refresh(&f->view);
    struct mj_run run;
    assert_true(mj_view_run(&f->view, f->next, &run));
    assert_int_equal(run.count, 2);
    const struct mj_entry *first = &run.entries[0], *second = &run.entries[1];
    int a = mj_streams_find(f->streams, MJ_SPAN("a")),
        b = mj_streams_find(f->streams, MJ_SPAN("b"));
    assert_int_equal(first->streams, 1 << MJ_STREAM_MAIN | 1 << a);
    assert_int_equal(second->streams, 1 << b);
    assert_true(second->time > first->time);
    assert_true(mj_span_is(mj_journal_collection_name(f->journal, first->collection),
                           "app.bsky.feed.post"));
    assert_true(first->did == second->did && first->op == MJ_OP_CREATE);
    /* The time in the text is the entry's own. */
    char want[40];
    snprintf(want, sizeof want, "\"time_us\":%lld", (long long)mj_run_time(&run, 1));
    struct mj_span json = mj_run_json(&run, 1);
    assert_non_null(memmem(json.ptr, json.len, want, strlen(want)));
}

static void node_metrics(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':as 'm-from'\n"
                    "  :where(function(ev) return ev.text == 'yes' end):as 'm-where'\n"
                    "  :to(jet.stream 'x'):as 'm-to'\n");
    for (int i = 0; i < 5; i++)
        fixture_post(f, i % 2 ? "yes" : "no");
    static const struct {
        const char *node, *family;
        int64_t n;
    } want[] = {
        {"m-from", "moonjet_node_events_in_total", 5},
        {"m-from", "moonjet_node_events_out_total", 5},
        {"m-where", "moonjet_node_events_in_total", 5},
        {"m-where", "moonjet_node_events_out_total", 2},
        {"m-where", "moonjet_node_events_dropped_total", 3},
        {"m-where", "moonjet_node_errors_total", 0},
        {"m-to", "moonjet_node_events_in_total", 2},
    };
    for (size_t i = 0; i < MJ_COUNT(want); i++)
        assert_int_equal(mj_metric_get(mj_metric(want[i].family, MJ_COUNTER, "",
                                                 "script=\"s1.lua\",node=\"%s\"", want[i].node)),
                         want[i].n);
}

static void print_writes_lines(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':to(jet.print(), jet.stream 's')\n");
    char path[128];
    snprintf(path, sizeof path, "%s/out", f->dir);
    fflush(stdout);
    int saved = dup(1), fd = open(path, O_CREAT | O_RDWR, 0600);
    dup2(fd, 1);
    fixture_post(f, "one");
    fixture_post(f, "two");
    mj_router_flush(f->router, -1, 0);
    dup2(saved, 1);
    close(saved);
    MJ_AUTO_BUF text = {0};
    mj_buf_reserve(&text, 65536);
    ssize_t n = pread(fd, text.ptr, 65536, 0);
    close(fd);
    assert_true(n > 0);
    text.len = (size_t)n;
    assert_string_equal(mj_buf_cstr(&text), fixture_take(f, "s"));
}

static void graphs_are_shown(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local f = jet.from { op = 'create', collection = 'a.b.c' }\n"
                    "f:map(print)\n"
                    "f:to(jet.stream 's', jet.print())\n"
                    "jet.main():tap(print):as 'look'\n");
    MJ_AUTO_BUF out = {0};
    const struct mj_graph *g = mj_scripts_graph(f->scripts, 0);
    mj_graph_print(g, &out);
    assert_holds(mj_buf_cstr(&out), "from#1 { collection = \"a.b.c\", op = \"create\" }");
    assert_holds(mj_buf_cstr(&out), "s1.lua:2");
    assert_holds(mj_buf_cstr(&out), "stream#1 → /stream/s/subscribe");
    assert_holds(mj_buf_cstr(&out), "    look");
    /* The places stand below each other, whatever is before them. */
    assert_holds(mj_buf_cstr(&out), "    stream#1 → /stream/s/subscribe                        s1");
    assert_holds(mj_buf_cstr(&out), "    map#1                                                 s1");
    out.len = 0;
    mj_graph_print_json(g, &out);
    assert_holds(mj_buf_cstr(&out), "{\"name\":\"map#1\",\"type\":\"map\",\"file\":\"s1.lua\","
                                    "\"line\":2,\"parent\":0}");
    assert_holds(mj_buf_cstr(&out), "\"stream\":\"s\"");
    out.len = 0;
    assert_int_equal(mj_graph_warn(g, &out), 1);
    assert_holds(mj_buf_cstr(&out), "s1.lua:2: what passes map#1 ends nowhere");
}

/* Between calls, of scripts without tasks too, and of all of them. */
static void garbage_is_collected_between_calls(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++)
        fixture_load(f, "local live = {} for i = 1, 20000 do live[i] = {} end\n"
                        "jet.from '*':tap(function(ev) live[1] = { live } end)");
    for (int i = 0; i < 200; i++) {
        fixture_post(f, "x");
        mj_scripts_run(f->scripts, 1000);
    }
    for (int i = 0; i < 3; i++)
        assert_true(f->scripts->scripts[i]->vm->gc_used > 0);
}

static struct mj_buf logged;

static void on_log(void *ctx, enum mj_log_level level, const char *tag, const char *text)
{
    (void)ctx;
    (void)level;
    (void)tag;
    mj_buf_puts(&logged, text);
}

/* Two scripts in one thread; one of them has run for `ns` of the last ten seconds. */
static void run_for(struct fixture *f, int64_t ns)
{
    static int64_t now = 1;
    logged.len = 0;
    f->scripts->scripts[0]->vm->sync_ns = ns;
    mj__shares_tick(f->scripts, now += 10000000);
}

static void whom_all_wait_for_is_told(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':tap(function(ev) return ev.text end)");
    fixture_load(f, "");
    fixture_post(f, "x");
    assert_true(f->scripts->scripts[0]->vm->sync_ns > 0);
    assert_int_equal(f->scripts->scripts[1]->vm->sync_ns, 0);
    mj_log_capture(on_log, NULL);
    run_for(f, 9000000000);
    run_for(f, 9000000000);
    assert_int_equal(logged.len, 0); /* it is alone in its thread */
    mj_scripts_share(f->scripts);
    run_for(f, 0);
    run_for(f, 5000000000);
    assert_int_equal(logged.len, 0);
    run_for(f, 8300000000);
    assert_holds(mj_buf_cstr(&logged),
                 "s1.lua: its functions on events took 83 % of the last 10 s");
    logged.len = 0;
    mj__shares_tick(f->scripts, 60000001); /* later, but no ten seconds */
    assert_int_equal(logged.len, 0);
    mj_log_capture(NULL, NULL);
    mj_buf_deinit(&logged);
}

/* Each edit is sound, what comes of them is not: nothing that goes out is lost without a word. */
static void a_spoilt_record_is_told(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.main():map(function(d) d.record['$type'] = '' return d end)");
    mj_log_capture(on_log, NULL);
    fixture_post(f, "x");
    mj_log_capture(NULL, NULL);
    assert_int_equal(fixture_count(f, "main"), 0);
    assert_holds(mj_buf_cstr(&logged), "at://" FIXTURE_DID "/app.bsky.feed.post/3kgmi5fzxhc2l is "
                                       "dropped: a script has made a record of it that cannot be "
                                       "sent: ");
    mj_buf_deinit(&logged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_scripts_main_is_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(from_where_map_to, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_share_an_unedited_event, setup, teardown),
        cmocka_unit_test_setup_teardown(main_is_one_line_through_all_scripts, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_costs_one_event_in_one_flow, setup, teardown),
        cmocka_unit_test_setup_teardown(where_takes_a_match, setup, teardown),
        cmocka_unit_test_setup_teardown(entries_say_what_they_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(node_metrics, setup, teardown),
        cmocka_unit_test_setup_teardown(print_writes_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(graphs_are_shown, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_is_collected_between_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(whom_all_wait_for_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_spoilt_record_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
