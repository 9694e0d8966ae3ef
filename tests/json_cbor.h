/* Published vectors are written as JSON of the atproto data model; this makes the DAG-CBOR they
 * stand for: {"$link"} is tag 42, {"$bytes"} a byte string, keys in canonical order. A number with
 * a fraction becomes a float64, which is what such a vector is there to have refused. */
#pragma once

#include <cJSON.h>
#include <math.h>

#include "atproto/cbor.h"
#include "atproto/cid.h"
#include "shared.h"

/* Appends the bytes of standard base64, padded or not. */
static inline void mj_test_base64(const char *text, struct mj_buf *out)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned have = 0;
    for (; *text && *text != '='; text++) {
        bits = bits << 6 | (uint32_t)(strchr(alphabet, *text) - alphabet);
        have += 6;
        if (have >= 8) {
            have -= 8;
            mj_buf_putc(out, (char)(bits >> have));
        }
    }
}

static inline int mj_test_key_order(const void *a, const void *b)
{
    const char *x = (*(cJSON *const *)a)->string, *y = (*(cJSON *const *)b)->string;
    size_t n = strlen(x), m = strlen(y);
    return n != m ? (n < m ? -1 : 1) : memcmp(x, y, n);
}

static inline void mj_test_to_cbor(const cJSON *v, struct mj_buf *out)
{
    const cJSON *child;
    if (cJSON_IsObject(v)) {
        const cJSON *keys[64];
        uint8_t cid[MJ_CID_MAX];
        int n = cJSON_GetArraySize(v), link;
        child = v->child;
        if (n == 1 && cJSON_IsString(child) && strcmp(child->string, "$link") == 0 &&
            (link = mj_cid_from_text(mj_str(child->valuestring), cid)) > 0) {
            mj_cbor_put_link(out, mj_span(cid, (size_t)link));
            return;
        }
        if (n == 1 && cJSON_IsString(child) && strcmp(child->string, "$bytes") == 0) {
            MJ_AUTO_BUF bytes = {0};
            mj_test_base64(child->valuestring, &bytes);
            mj_cbor_put_bytes(out, mj_buf_span(&bytes));
            return;
        }
        n = 0;
        cJSON_ArrayForEach(child, v) keys[n++] = child;
        qsort(keys, (size_t)n, sizeof *keys, mj_test_key_order);
        mj_cbor_put_map(out, (uint64_t)n);
        for (int i = 0; i < n; i++) {
            mj_cbor_put_text(out, mj_str(keys[i]->string));
            mj_test_to_cbor(keys[i], out);
        }
    } else if (cJSON_IsArray(v)) {
        mj_cbor_put_array(out, (uint64_t)cJSON_GetArraySize(v));
        cJSON_ArrayForEach(child, v) mj_test_to_cbor(child, out);
    } else if (cJSON_IsString(v)) {
        mj_cbor_put_text(out, mj_str(v->valuestring));
    } else if (cJSON_IsNumber(v) && v->valuedouble == floor(v->valuedouble)) {
        mj_cbor_put_int(out, (int64_t)v->valuedouble);
    } else if (cJSON_IsNumber(v)) {
        union {
            double d;
            uint64_t u;
        } x = {.d = v->valuedouble};
        mj_buf_putc(out, (char)0xfb);
        for (int shift = 56; shift >= 0; shift -= 8)
            mj_buf_putc(out, (char)(x.u >> shift));
    } else if (cJSON_IsBool(v)) {
        mj_cbor_put_bool(out, cJSON_IsTrue(v));
    } else {
        mj_cbor_put_null(out);
    }
}
