/* moonjet ctl why. */
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/options.h"
#include "cli/ctl.h"
#include "cli/why.h"

static int fail(int status, const struct mj_buf *error)
{
    fprintf(stderr, "moonjet ctl: why: %.*s\n", (int)error->len, (const char *)error->ptr);
    return status;
}

static int show(struct mj_span report, bool json)
{
    MJ_AUTO_BUF out = {0};
    int status = why_show(report, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"), &out);
    if (status == MJ_EXIT_USAGE) {
        fputs("moonjet ctl: why: that is no answer of a moonjet of this version\n", stderr);
        return MJ_EXIT_USAGE;
    }
    if (json) {
        out.len = 0;
        mj_buf_put(&out, report.ptr, report.len);
        mj_buf_putc(&out, '\n');
    }
    if (out.len)
        fwrite(out.ptr, 1, out.len, stdout);
    return fflush(stdout) ? MJ_EXIT_USAGE : status;
}

int mj__ctl_why(const char *socket, const char *given, const struct why_lookup *lookup, bool json)
{
    struct why_target target;
    struct mj__ctl_answer answer = {0};
    MJ_AUTO_BUF body = {0};
    MJ_AUTO_BUF error = {0};
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    /* Whatever keeps the question from being answered is told apart from what never arrived. */
    if (why_target_ask(given, lookup, &target, &error))
        return fail(MJ_EXIT_USAGE, &error);
    mj_buf_puts(&body, "{\"args\":[");
    mj_buf_put_json(&body, mj_buf_span(&target.text));
    mj_buf_puts(&body, "]}");
    why_target_deinit(&target);
    int status = MJ_EXIT_USAGE;
    if (mj__ctl_ask(socket, "why", mj_buf_span(&body), &answer, &error) ||
        mj__ctl_error(&answer, &error).len)
        fail(status, &error);
    else
        status = show(mj_buf_span(&answer.body), json);
    mj_buf_deinit(&answer.body);
    return status;
}
