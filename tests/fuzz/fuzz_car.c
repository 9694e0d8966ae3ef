/* CARs and CIDs: sections lie inside the input, the reader always gets on, and writing what it read
 * gives the same bytes, since only one spelling is accepted. */
#include "atproto/car.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

static void require_cid(struct mj_span in)
{
    char text[1 + (MJ_CID_MAX * 8 + 4) / 5];
    uint8_t back[MJ_CID_MAX];
    int n = mj_cid_parse(in);
    REQUIRE(n == MJ_ECID || (n >= 5 && n <= MJ_CID_MAX && (size_t)n <= in.len));
    if (n < 0)
        return;
    struct mj_span cid = mj_span(in.ptr, (size_t)n);
    size_t len = mj_cid_text(cid, text);
    REQUIRE(len == 1 + ((size_t)n * 8 + 4) / 5);
    REQUIRE(mj_cid_from_text(mj_span(text, len), back) == n);
    REQUIRE(memcmp(back, in.ptr, (size_t)n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mj_buf copy;
    struct mj_span in = mj_span(data, size);
    struct mj_car car;
    struct mj_car_section s;
    require_cid(in);
    if (mj_car_open(&car, in))
        return 0;
    REQUIRE(mj_cid_is_valid(car.root));
    const uint8_t *first = car.p;
    copy.len = 0;
    for (;;) {
        const uint8_t *at = car.p;
        int more = mj_car_next(&car, &s);
        if (more <= 0) {
            REQUIRE(more == 0 || more == MJ_ECAR);
            if (more == 0)
                REQUIRE(
                    mj_span_eq(mj_span(first, (size_t)(data + size - first)), mj_buf_span(&copy)));
            return 0;
        }
        REQUIRE(car.p > at && car.p <= data + size);
        REQUIRE(s.cid.ptr > at && s.block.ptr == s.cid.ptr + s.cid.len);
        REQUIRE(s.block.ptr + s.block.len == car.p);
        REQUIRE(mj_cid_parse(s.cid) == (int)s.cid.len);
        mj_car_put_section(&copy, s.cid, s.block);
    }
}
