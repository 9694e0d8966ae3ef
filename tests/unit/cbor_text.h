/* CBOR from a compact notation, for tests:
 *
 *   {k:v,…} [v,…] "text" 123 ~ (null) t f   keys bare and already in canonical order
 *   L  a link to the record whose bytes are "L"        B  the bytes 00 01 02 fe ff */
#pragma once

#include "cmocka_all.h"

#include "atproto/cbor.h"
#include "atproto/cid.h"

static inline void cbor_text__put(struct mj_buf *b, const char **s)
{
    struct mj_buf body = {0};
    uint64_t n = 0;
    char c = **s;
    if (c == '{' || c == '[') {
        for (++*s; **s != '}' && **s != ']'; n++) {
            if (**s == ',')
                ++*s;
            if (c == '{') {
                size_t len = strcspn(*s, ":");
                mj_cbor_put_text(&body, mj_span(*s, len));
                *s += len + 1;
            }
            cbor_text__put(&body, s);
        }
        ++*s;
        if (c == '{')
            mj_cbor_put_map(b, n);
        else
            mj_cbor_put_array(b, n);
        mj_buf_put(b, body.ptr, body.len);
    } else if (c == '"') {
        size_t len = strcspn(*s + 1, "\"");
        mj_cbor_put_text(b, mj_span(*s + 1, len));
        *s += len + 2;
    } else if (c == '~' || c == 't' || c == 'f') {
        if (c == '~')
            mj_cbor_put_null(b);
        else
            mj_cbor_put_bool(b, c == 't');
        ++*s;
    } else if (c == 'L') {
        struct mj_cid cid;
        mj_cid_of(MJ_SPAN("L"), &cid);
        mj_cbor_put_link(b, mj_span(cid.bytes, MJ_CID_LEN));
        ++*s;
    } else if (c == 'B') {
        mj_cbor_put_bytes(b, MJ_SPAN("\x00\x01\x02\xfe\xff"));
        ++*s;
    } else {
        char *end;
        mj_cbor_put_int(b, strtoll(*s, &end, 10));
        *s = end;
    }
    mj_buf_deinit(&body);
}

/* One record in *b, which is emptied first. */
static inline struct mj_span cbor_text(struct mj_buf *b, const char *s)
{
    b->len = 0;
    cbor_text__put(b, &s);
    assert_int_equal(*s, 0);
    assert_int_equal(mj_cbor_check(mj_buf_span(b)), 0);
    return mj_buf_span(b);
}
