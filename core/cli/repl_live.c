#include "cli/repl_live.h"

#include "base/err.h"
#include "base/json.h"
#include "cli/ctl.h"
#include "cli/prompt.h"

struct live {
    const char *socket, *script;
};

/* {"ok":true,"text":"…"} or {"ok":true,"more":true} */
static int read_answer(struct mj_span body, struct mj_buf *out)
{
    struct mj_span rest = body, object, key, raw;
    bool more = false;
    if (mj_json_take(&rest, &object) != MJ_JSON_OBJECT) {
        mj_buf_puts(out, "the answer is not what moonjet says\n");
        return MJ_EINVAL;
    }
    rest = mj_json_inside(object);
    for (int type; (type = mj_json_member(&rest, &key, &raw)) >= 0;) {
        if (mj_span_is(key, "\"text\"") && type == MJ_JSON_STRING)
            mj_json_text(raw, out);
        more |= mj_span_is(key, "\"more\"") && mj_span_is(raw, "true");
    }
    if (out->len && out->ptr[out->len - 1] != '\n')
        mj_buf_putc(out, '\n');
    return more ? MJ_ETRUNC : 0;
}

static int eval(void *ctx, struct mj_span code, struct mj_buf *out)
{
    const struct live *live = ctx;
    MJ_AUTO_BUF body = {0};
    struct mj__ctl_answer answer = {0};
    mj_buf_puts(&body, "{\"args\":[");
    mj_buf_put_json(&body, code);
    if (live->script) {
        mj_buf_putc(&body, ',');
        mj_buf_put_json(&body, mj_str(live->script));
    }
    mj_buf_puts(&body, "]}");
    int err = mj__ctl_ask(live->socket, "repl", mj_buf_span(&body), &answer, out);
    if (err) {
        mj_buf_putc(out, '\n');
    } else if (mj__ctl_error(&answer, out).len) {
        mj_buf_putc(out, '\n');
        err = MJ_EINVAL;
    } else {
        out->len = 0;
        err = read_answer(mj_buf_span(&answer.body), out);
    }
    mj_buf_deinit(&answer.body);
    return err;
}

int mj__repl_live(const char *socket, const char *script)
{
    struct live live = {socket, script};
    const struct mj__prompt_cfg cfg = {.ctx = &live, .eval = eval};
    return mj__prompt_run(&cfg);
}
