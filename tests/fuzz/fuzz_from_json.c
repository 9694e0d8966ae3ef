/* JSON to CBOR and back. What is accepted is canonical, is printed, and comes back the same; what
 * is printed of any CBOR is accepted, and printed the same again.
 *
 * Input: as an event, as any JSON value, and as CBOR. */
#include "atproto/cbor.h"
#include "base/err.h"
#include "event/from_json.h"
#include "event/jetstream.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

static struct mj_from_json *readers[2]; /* a reading of one may be compared with the other's */

static void as_event(struct mj_span in)
{
    struct mj_event ev, again;
    size_t at;
    if (mj_event_from_json(readers[0], in, &ev, &at)) {
        CHECK(at <= in.len);
        return;
    }
    CHECK(!ev.record.len || mj_record_check(ev.record) == 0);
    struct mj_buf json = {0}, second = {0};
    CHECK(mj_jetstream_encode(&ev, NULL, &json) == 0);
    CHECK(mj_event_from_json(readers[1], mj_buf_span(&json), &again, &at) == 0);
    CHECK(again.kind == ev.kind && again.op == ev.op && again.time_us == ev.time_us);
    CHECK(mj_span_eq(again.did, ev.did) && mj_span_eq(again.cid, ev.cid));
    CHECK(mj_span_eq(again.record, ev.record));
    CHECK(mj_jetstream_encode(&again, NULL, &second) == 0);
    CHECK(mj_span_eq(mj_buf_span(&json), mj_buf_span(&second)));
    mj_buf_deinit(&json);
    mj_buf_deinit(&second);
}

static void as_value(struct mj_span in)
{
    struct mj_span cbor, again;
    size_t at;
    if (mj_cbor_from_json(readers[0], in, &cbor, &at)) {
        CHECK(at <= in.len);
        return;
    }
    CHECK(mj_cbor_check(cbor) == 0);
    struct mj_buf json = {0};
    CHECK(mj_json_from_cbor(cbor, &json) == 0);
    CHECK(mj_cbor_from_json(readers[1], mj_buf_span(&json), &again, &at) == 0);
    CHECK(mj_span_eq(again, cbor));
    mj_buf_deinit(&json);
}

static void as_cbor(struct mj_span in)
{
    struct mj_buf json = {0}, second = {0};
    struct mj_span cbor;
    size_t at;
    if (mj_json_from_cbor(in, &json) == 0) {
        CHECK(mj_cbor_from_json(readers[0], mj_buf_span(&json), &cbor, &at) == 0);
        CHECK(mj_json_from_cbor(cbor, &second) == 0);
        CHECK(mj_span_eq(mj_buf_span(&json), mj_buf_span(&second)));
    }
    mj_buf_deinit(&json);
    mj_buf_deinit(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int i = 0; i < 2; i++)
        if (!readers[i])
            readers[i] = mj_from_json_new();
    as_event(mj_span(data, size));
    as_value(mj_span(data, size));
    as_cbor(mj_span(data, size));
    return 0;
}
