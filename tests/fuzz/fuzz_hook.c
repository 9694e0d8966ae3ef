/* What receivers answer, and addresses that scripts give: Retry-After is never longer than a day,
 * a body marks only items there are, and an origin shows nothing of a URL but its host.
 *
 * Input: a byte that says as what the rest is read. */
#include "base/err.h"
#include "deliver/hook_answer.h"
#include "script/hook.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

static void as_headers(struct mj_span in)
{
    struct mj_fetched a = {.status = 429, .headers = in};
    int64_t us = mj_retry_after(in, INT64_C(1767225600000000));
    CHECK(us >= 0 && us <= MJ_RETRY_AFTER_MAX);
    struct mj_judged j = mj_hook_judge(&a, INT64_C(1767225600000000));
    CHECK(j.what == MJ_ANSWER_RETRY && j.after_us >= 0 && j.after_us <= MJ_RETRY_AFTER_MAX);
    struct mj_span value = mj_hook_header(in, "retry-after");
    CHECK(!value.len || (value.ptr >= in.ptr && value.ptr + value.len <= in.ptr + in.len));
}

static void as_body(struct mj_span in)
{
    enum { N = 3 };
    const struct mj_item items[N] = {{.id = "evt_1"}, {.id = "evt_2"}, {.id = "evt_3"}};
    bool failed[N] = {false};
    for (int cut = 0; cut <= 1; cut++) {
        memset(failed, 0, sizeof failed);
        size_t marked = 0, n = mj_hook_failed(in, cut, items, N, failed);
        for (size_t i = 0; i < N; i++)
            marked += failed[i];
        CHECK(marked == n);
    }
}

static void as_url(struct mj_span in)
{
    MJ_AUTO_BUF origin = {0};
    MJ_AUTO_BUF error = {0};
    char *url MJ_AUTO_FREE = mj_span_dup(in);
    char *allow[] = {"127.0.0.1"};
    struct mj_hook_spec spec = {.url = url, .allow = allow, .allow_count = in.len % 2};
    if (mj_hook_origin(&spec, &origin, &error)) {
        CHECK(error.len && !origin.len);
        return;
    }
    const char *host = strstr(mj_buf_cstr(&origin), "://");
    CHECK(host && host[3] && !error.len);
    for (const char *p = host + 3; *p; p++)
        CHECK((unsigned char)*p > ' ' && !strchr("/?#@\\", *p));
    CHECK(spec.allow_count || mj_span_starts(mj_buf_span(&origin), MJ_SPAN("https://")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!n)
        return 0;
    struct mj_span in = mj_span(data + 1, n - 1);
    if (*data % 3 == 0)
        as_headers(in);
    else if (*data % 3 == 1)
        as_body(in);
    else
        as_url(in);
    return 0;
}
