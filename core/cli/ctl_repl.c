/* moonjet ctl repl: lines typed here run in a script of the running moonjet. */
#include "base/err.h"
#include "base/json.h"
#include "cli/ctl.h"
#include "cli/prompt.h"
#include "cli/text.h"

struct session {
    const char *socket, *script; /* borrowed */
};

/* "more": the code goes on in another line. */
static bool wants_more(const struct mj__ctl_answer *a)
{
    struct mj_span rest = mj_buf_span(&a->body), object, key, raw;
    if (!a->is_json || mj_json_take(&rest, &object) != MJ_JSON_OBJECT)
        return false;
    rest = mj_json_inside(object);
    while (mj_json_member(&rest, &key, &raw) >= 0)
        if (mj_span_is(key, "\"more\""))
            return mj_span_is(raw, "true");
    return false;
}

static int eval(void *ctx, struct mj_span code, struct mj_buf *out)
{
    const struct session *s = ctx;
    struct mj__ctl_answer answer = {0};
    MJ_AUTO_BUF body = {0};
    MJ_AUTO_BUF error = {0};
    mj_buf_puts(&body, "{\"args\":[");
    mj_buf_put_json(&body, mj_str(s->script));
    mj_buf_putc(&body, ',');
    mj_buf_put_json(&body, code);
    mj_buf_puts(&body, "]}");
    int err = mj__ctl_ask(s->socket, "repl", mj_buf_span(&body), &answer, &error);
    if (!err && wants_more(&answer)) {
        err = MJ_ETRUNC;
    } else if (!err && mj__ctl_error(&answer, &error).len) {
        err = MJ_EINVAL;
    } else if (!err && !mj__ctl_show(mj_buf_span(&answer.body), out)) {
        mj_buf_puts(&error, "the answer is not what moonjet says");
        err = MJ_EIO;
    }
    if (err && err != MJ_ETRUNC) {
        for (struct mj_span rest = mj_buf_span(&error); rest.len;) {
            const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
            size_t n = end ? (size_t)(end - rest.ptr) : rest.len;
            mj_text_harmless(mj_span(rest.ptr, n), SIZE_MAX, out);
            mj_buf_putc(out, '\n');
            rest = mj_span(rest.ptr + n + (end != NULL), rest.len - n - (end != NULL));
        }
    }
    mj_buf_deinit(&answer.body);
    return err;
}

bool mj__ctl_repl(const char *socket, const char *script)
{
    struct session session = {socket, script};
    const struct mj_prompt_cfg prompt = {
        .greeting = "Lua inside the running moonjet: what is changed here is changed there. "
                    "help() tells what there is; Ctrl-D ends.",
        .ctx = &session,
        .eval = eval,
    };
    return mj_prompt_run(&prompt);
}
