/* moonjet ctl deliveries: what is typed as a command of the control socket, with a question before
 * what cannot be undone. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "cli/ctl.h"
#include "cli/deliveries.h"
#include "cli/text.h"

static int complain(int status, const struct mj_buf *text)
{
    fprintf(stderr, "moonjet ctl: deliveries: %.*s\n", (int)text->len,
            text->len ? (const char *)text->ptr : "");
    return status;
}

static int ask(const char *socket, const struct mj_strings *args, struct mj__ctl_answer *answer)
{
    MJ_AUTO_BUF body = {0};
    MJ_AUTO_BUF error = {0};
    mj_buf_puts(&body, "{\"args\":[");
    for (size_t i = 0; i < args->n; i++) {
        mj_buf_puts(&body, i ? "," : "");
        mj_buf_put_json(&body, mj_str(args->v[i]));
    }
    mj_buf_puts(&body, "]}");
    if (mj__ctl_ask(socket, "deliveries", mj_buf_span(&body), answer, &error) ||
        mj__ctl_error(answer, &error).len)
        return complain(MJ_EXIT_FAILED, &error);
    return 0;
}

/* The whole name of what the words mean, and how many dead letters it has. 0 or an exit status. */
static int look_up(const char *socket, const char *word, struct mj_buf *name, double *letters)
{
    const struct mj_strings args = {.v = {"show", word}, .n = 2};
    struct mj__ctl_answer answer = {0};
    int r = ask(socket, &args, &answer);
    cJSON *json = r ? NULL
                    : cJSON_ParseWithLength(answer.body.len ? (const char *)answer.body.ptr : "",
                                            answer.body.len);
    const cJSON *d = cJSON_GetObjectItemCaseSensitive(json, "delivery");
    const char *script = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(d, "script"));
    const char *node = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(d, "node"));
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(d, "dead_letters");
    if (script && node) {
        MJ_AUTO_BUF whole = {0};
        mj_buf_printf(&whole, "%s %s", script, node);
        mj_text_harmless(mj_buf_span(&whole), MJ_READER_NAME_MAX, name);
    } else {
        mj_buf_printf(name, "dead letter %s", word);
    }
    *letters = cJSON_IsNumber(n) ? n->valuedouble : 1;
    cJSON_Delete(json);
    mj_buf_deinit(&answer.body);
    return r;
}

/* Whether somebody at a terminal says yes. Where there is nobody to ask, whoever wrote the command
 * has decided. 0 or an exit status. */
static int confirm(const char *socket, const struct mj_strings *args)
{
    const char *verb = args->v[0];
    char answer[16], when[28];
    double letters;
    int64_t us;
    MJ_AUTO_BUF name = {0};
    bool rewinds = strcmp(verb, "rewind") == 0, purges = strcmp(verb, "purge") == 0;
    if ((!rewinds && !purges && strcmp(verb, "forget") != 0) || !isatty(STDIN_FILENO) ||
        !isatty(STDERR_FILENO))
        return 0;
    int r = look_up(socket, args->v[1], &name, &letters);
    if (r)
        return r;
    if (rewinds && mj__deliveries_time(args->v[2], mj_now_us(), &us) == 0) {
        mj_datetime_make(us, when);
        fprintf(stderr,
                "%s goes on from %s: everything from there is delivered again, under the same "
                "ids.\n",
                mj_buf_cstr(&name), us ? when : "the oldest event there is");
    } else if (purges) {
        fprintf(stderr, "%s: %.0f dead letter%s will be gone.\n", mj_buf_cstr(&name), letters,
                letters == 1 ? "" : "s");
    } else {
        fprintf(stderr, "%s: its position and its dead letters will be gone.\n",
                mj_buf_cstr(&name));
    }
    fprintf(stderr, "Go on? [y/N] ");
    if (fgets(answer, sizeof answer, stdin) && (*answer == 'y' || *answer == 'Y'))
        return 0;
    fprintf(stderr, "nothing was changed\n");
    return MJ_EXIT_FAILED;
}

static int show(const struct mj__ctl_answer *answer, bool json)
{
    MJ_AUTO_BUF out = {0};
    struct mj_span body = mj_buf_span(&answer->body);
    if (json || (!mj__deliveries_text(body, mj_now_us(), &out) && !mj__ctl_show(body, &out))) {
        mj_buf_put(&out, body.ptr, body.len);
        if (out.len && out.ptr[out.len - 1] != '\n')
            mj_buf_putc(&out, '\n');
    }
    if (out.len)
        fwrite(out.ptr, 1, out.len, stdout);
    return fflush(stdout) ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}

int mj__ctl_deliveries(const char *socket, const struct mj__ctl_deliveries *given)
{
    struct mj_strings args = {0};
    MJ_AUTO_BUF name = {0};
    MJ_AUTO_BUF error = {0};
    char time[24];
    int64_t us;
    args.v[args.n++] = given->words_n ? given->words[0] : "list";
    bool rewinds = strcmp(args.v[0], "rewind") == 0;
    for (size_t i = 1; i < given->words_n; i++)
        mj_buf_printf(&name, "%s%s", i > 1 ? " " : "", given->words[i]);
    if (name.len)
        args.v[args.n++] = mj_buf_cstr(&name);
    if (given->all)
        args.v[args.n++] = "--all";
    if (given->at && mj__deliveries_time(given->at, mj_now_us(), &us)) {
        mj_buf_printf(&error,
                      "--at %s: expected -2h, 2026-11-27T09:00:00Z, seconds or microseconds since "
                      "1970, oldest or now",
                      given->at);
        return complain(MJ_EXIT_USAGE, &error);
    }
    if (given->at) {
        snprintf(time, sizeof time, "%lld", (long long)us);
        args.v[args.n++] = time;
    }
    if (rewinds ? !given->at || !name.len : given->at != NULL) {
        mj_buf_puts(&error,
                    rewinds ? "rewind wants NAME --at=TIME, as in --at=-2h" : "--at is for rewind");
        return complain(MJ_EXIT_USAGE, &error);
    }
    if (!mj__deliveries_check(&args, &error))
        return complain(MJ_EXIT_USAGE, &error);
    struct mj__ctl_answer answer = {0};
    int r = given->yes ? 0 : confirm(socket, &args);
    if (!r)
        r = ask(socket, &args, &answer);
    if (!r)
        r = show(&answer, given->json);
    mj_buf_deinit(&answer.body);
    return r;
}
