/* What webhook listen prints of a request: one line of JSON, or text that steers no terminal,
 * whatever came. Input: a request. */
#include "../../core/cli/pretty.c"
#include "../../core/cli/text.c"
#include "../../core/cli/webhook_print.c"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

static void check_text(const struct mj_buf *out)
{
    const uint8_t *p = out->ptr, *end = out->len ? p + out->len : p;
    while (p < end) {
        unsigned n = mj_utf8_len(p, end);
        CHECK(n && (*p == '\n' || !is_control(p, n)));
        p += n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mj_http_head head;
    int n = mj_http_parse_request(mj_span(data, size), &head);
    if (n < 0)
        return 0;
    struct mj_buf out = {0};
    struct mj__delivery d = {.head = &head,
                             .body = mj_span(data + n, size - (size_t)n),
                             .id = mj_http_header(&head, "webhook-id"),
                             .good = true,
                             .status = 200};
    mj_buf_put(&d.how, d.id.ptr, d.id.len);
    mj__delivery_text(&d, false, &out);
    check_text(&out);
    out.len = 0;
    mj__delivery_json(&d, &out);
    CHECK(out.len && memchr(out.ptr, '\n', out.len) == out.ptr + out.len - 1);
    CHECK(mj_utf8_valid(mj_buf_span(&out)));
    mj_buf_deinit(&d.how);
    mj_buf_deinit(&out);
    return 0;
}
