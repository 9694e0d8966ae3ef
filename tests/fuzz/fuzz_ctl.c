/* What `moonjet ctl` makes of answers: whatever they are, text comes out that cannot steer a
 * terminal. Input: as JSON, as deliveries, and as metrics. */
#include "../../core/cli/ctl_show.c"
#include "../../core/cli/ctl_top.c"
#include "../../core/cli/deliveries_text.c"
#include "../../core/cli/pretty.c"
#include "../../core/cli/text.c"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

static void check_text(const struct mj_buf *out)
{
    const uint8_t *p = out->ptr, *end = out->len ? p + out->len : p; /* p may be NULL */
    while (p < end) {
        unsigned n = mj_utf8_len(p, end);
        CHECK(n && (*p == '\n' || !is_control(p, n)));
        p += n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mj_buf out = {0};
    if (mj__ctl_show(mj_span(data, size), &out))
        check_text(&out);
    else
        CHECK(out.len == 0);
    out.len = 0;
    if (mj__deliveries_text(mj_span(data, size), INT64_C(1795771177000000), &out))
        check_text(&out);
    out.len = 0;
    mj__deliveries_error(mj_span(data, size), &out);
    check_text(&out);
    out.len = 0;
    struct mj__ctl_sample none = {0}, now = {0};
    mj__ctl_sample_read(&now, mj_span(data, size), 1000000);
    mj__ctl_top(&none, &now, 50, &out);
    check_text(&out);
    mj__ctl_sample_deinit(&now);
    mj_buf_deinit(&out);
    return 0;
}
