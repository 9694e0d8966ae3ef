/* Commands of the control socket that are for the router's thread: POST /ctl/COMMAND with
 * {"args":["…"]}, answered by a JSON object. The rest (status, streams, metrics) the server answers
 * itself. */
#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "cli/run.h"
#include "script/repl.h"

bool run_next_arg(struct run_args *a, struct mj_buf *out)
{
    struct mj_span raw;
    out->len = 0;
    if (mj_json_element(&a->rest, &raw) != MJ_JSON_STRING)
        return false;
    mj_json_text(raw, out);
    mj_buf_cstr(out);
    return true;
}

/* Finds "args" in the body; an empty body has none. */
static bool find_args(struct mj_span body, struct run_args *out)
{
    struct mj_span rest = body, object, key, raw;
    *out = (struct run_args){{NULL, 0}};
    if (!body.len)
        return true;
    if (mj_json_take(&rest, &object) != MJ_JSON_OBJECT || rest.len)
        return false;
    rest = mj_json_inside(object);
    for (int type; (type = mj_json_member(&rest, &key, &raw)) >= 0;)
        if (mj_span_is(key, "\"args\"")) {
            if (type != MJ_JSON_ARRAY)
                return false;
            out->rest = mj_json_inside(raw);
            struct mj_span all = out->rest, element;
            while ((type = mj_json_element(&all, &element)) >= 0)
                if (type != MJ_JSON_STRING)
                    return false;
        }
    return true;
}

static void answer(struct mj_call *call, int status, struct mj_buf *json)
{
    mj_call_answer(call, status, (struct mj_span){NULL, 0}, mj_buf_span(json));
}

static void answer_text(struct mj_call *call, bool ok, const struct mj_buf *text)
{
    MJ_AUTO_BUF json = {0};
    mj_buf_printf(&json, "{\"ok\":%s,\"%s\":", ok ? "true" : "false", ok ? "text" : "error");
    struct mj_span s = mj_buf_span(text);
    while (s.len && s.ptr[s.len - 1] == '\n')
        s.len--;
    mj_buf_put_json(&json, s);
    mj_buf_putc(&json, '}');
    answer(call, ok ? 200 : 409, &json);
}

/* scripts */
static void list_scripts(struct run *run, struct run_args *args, struct mj_call *call)
{
    (void)args;
    MJ_AUTO_BUF json = {0};
    mj_buf_puts(&json, "{\"ok\":true,\"scripts\":[");
    for (size_t i = 0; i < mj_scripts_count(run->scripts); i++) {
        struct mj_script_state s;
        mj_scripts_state(run->scripts, i, &s);
        mj_buf_puts(&json, i ? ",{\"script\":" : "{\"script\":");
        mj_buf_put_json(&json, mj_str(s.name));
        mj_buf_printf(&json,
                      ",\"state\":\"%s\",\"strikes\":%u,\"quarantine_seconds\":%.1f,"
                      "\"heap_bytes\":%zu,\"heap_max\":%zu,\"nodes\":%zu,"
                      "\"loaded_seconds_ago\":%" PRId64 ",\"path\":",
                      s.state, s.strikes, (double)s.left_us / 1e6, s.heap, s.heap_max,
                      mj_scripts_graph(run->scripts, i)->count, s.age_us / 1000000);
        mj_buf_put_json(&json, mj_str(s.path));
        mj_buf_putc(&json, '}');
    }
    run_list_lanes(run, mj_scripts_count(run->scripts) == 0, &json);
    mj_buf_puts(&json, "]}");
    answer(call, 200, &json);
}

struct graphs {
    const char *only; /* NULL: all */
    struct mj_buf *text;
    bool found;
};

static void print_graphs(void *ctx, struct mj_scripts *scripts)
{
    struct graphs *out = ctx;
    for (size_t i = 0; i < mj_scripts_count(scripts); i++) {
        const struct mj_graph *g = mj_scripts_graph(scripts, i);
        if (out->only && strcmp(g->script, out->only) != 0)
            continue;
        mj_graph_print(g, out->text);
        out->found = true;
    }
}

/* graph [SCRIPT] */
static void show_graph(struct run *run, struct run_args *args, struct mj_call *call)
{
    MJ_AUTO_BUF text = {0};
    MJ_AUTO_BUF name = {0};
    bool one = run_next_arg(args, &name);
    struct graphs out = {one ? mj_buf_cstr(&name) : NULL, &text, false};
    print_graphs(&out, run->scripts);
    run_each_lane(run, print_graphs, &out);
    if (one && !out.found)
        mj_call_fail(call, 404, "no script '%.200s'; moonjet ctl scripts lists them",
                     mj_buf_cstr(&name));
    else
        answer_text(call, true, &text);
}

/* reload [--all] [SCRIPT…] */
static void reload(struct run *run, struct run_args *args, struct mj_call *call)
{
    MJ_AUTO_BUF arg = {0};
    MJ_AUTO_BUF report = {0};
    struct mj_strings only = {0};
    bool all = false;
    while (run_next_arg(args, &arg)) {
        if (strcmp(mj_buf_cstr(&arg), "--all") == 0)
            all = true;
        else if (only.n < MJ_STRINGS_MAX)
            only.v[only.n++] = mj_strdup(mj_buf_cstr(&arg));
    }
    int err = run_reload(run, all, &only, &report);
    for (size_t i = 0; i < only.n; i++)
        free((char *)only.v[i]);
    answer_text(call, !err, &report);
}

struct search {
    const char *script;
    bool found;
};

static void search_lane(void *ctx, struct mj_scripts *scripts)
{
    struct search *s = ctx;
    size_t len = strlen(s->script);
    for (size_t i = 0; i < mj_scripts_count(scripts); i++) {
        const char *name = mj_scripts_graph(scripts, i)->script;
        s->found |=
            strncmp(name, s->script, len) == 0 && (!name[len] || strcmp(name + len, ".lua") == 0);
    }
}

/* repl CODE [SCRIPT]: runs Lua in the script's VM, between two batches of frames; without a script,
 * in the first. {"ok":true,"text":…}, with "more":true when the code goes on in another line. */
static void repl(struct run *run, struct run_args *args, struct mj_call *call)
{
    MJ_AUTO_BUF script = {0};
    MJ_AUTO_BUF code = {0};
    MJ_AUTO_BUF out = {0};
    MJ_AUTO_BUF json = {0};
    if (!run_next_arg(args, &code)) {
        mj_call_fail(call, 400, "repl wants CODE [SCRIPT]");
        return;
    }
    run_next_arg(args, &script);
    int err = mj_scripts_eval(run->scripts, script.len ? mj_buf_cstr(&script) : NULL,
                              mj_buf_span(&code), &out);
    mj_router_flush(run->router, -1, 0);
    if (err && err != MJ_ETRUNC) {
        struct search lanes = {mj_buf_cstr(&script), false};
        if (err == MJ_ENOENT && script.len)
            run_each_lane(run, search_lane, &lanes);
        if (lanes.found)
            mj_buf_puts(&out, "it runs in a lane of its own, which repl does not reach\n");
        answer_text(call, false, &out);
        return;
    }
    mj_buf_printf(&json, "{\"ok\":true,%s\"text\":", err ? "\"more\":true," : "");
    mj_buf_put_json(&json, mj_buf_span(&out));
    mj_buf_putc(&json, '}');
    answer(call, 200, &json);
}

static const struct {
    const char *name;
    void (*run)(struct run *run, struct run_args *args, struct mj_call *call);
} commands[] = {{"scripts", list_scripts},
                {"graph", show_graph},
                {"reload", reload},
                {"set", run_set_command},
                {"why", run_why_command},
                {"deliveries", run_deliveries_command},
                {"repl", repl}};

static void command(struct run *run, struct mj_call *call)
{
    const char *names[MJ_COUNT(commands) + 1];
    struct run_args args;
    if (!find_args(call->body, &args)) {
        mj_call_fail(call, 400, "expected {\"args\":[\"…\"]}");
        return;
    }
    for (size_t i = 0; i < MJ_COUNT(commands); i++) {
        names[i] = commands[i].name;
        if (mj_span_is(call->path, commands[i].name)) {
            commands[i].run(run, &args, call);
            return;
        }
    }
    MJ_AUTO_BUF word = {0};
    mj_buf_put(&word, call->path.ptr, call->path.len < 64 ? call->path.len : 64);
    const char *near = mj_closest(mj_buf_cstr(&word), names, MJ_COUNT(commands));
    mj_call_fail(call, 404, "no command '%s'%s%s%s", mj_buf_cstr(&word),
                 near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static void serve(struct run *run, struct mj_call *call)
{
    const struct mj_route_request request = {.method = call->method,
                                             .path = call->path,
                                             .query = call->query,
                                             .headers = call->headers,
                                             .body = call->body,
                                             .peer = call->peer};
    mj_scripts_serve(run->scripts, &request, mj_call_answer, call);
}

void run_take_calls(struct run *run)
{
    for (struct mj_call *call; (call = mj_calls_take(run->calls));)
        if (call->kind == MJ_CALL_CONTROL)
            command(run, call);
        else
            serve(run, call);
}
