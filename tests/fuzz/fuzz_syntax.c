/* Identifier syntax and UTF-8: what one function accepts, the others that build on it accept too,
 * and what has a second spelling function comes back unchanged. */
#include "atproto/cid.h"
#include "atproto/syntax.h"
#include "atproto/utf8.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

/* The grammar byte by byte, to hold the fast one against. */
static bool utf8_slow(struct mj_span s)
{
    for (size_t i = 0; i < s.len;) {
        unsigned n = mj_utf8_len(s.ptr + i, s.ptr + s.len);
        if (!n)
            return false;
        i += n;
    }
    return true;
}

static bool ascii(struct mj_span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= 0x20 || s.ptr[i] >= 0x7f || strchr("\"\\<>&", s.ptr[i]))
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mj_span s = mj_span(data, size), collection, rkey;
    REQUIRE(mj_utf8_valid(s) == utf8_slow(s));

    bool did = mj_did_valid(s), handle = mj_handle_valid(s), nsid = mj_nsid_valid(s);
    REQUIRE(mj_at_identifier_valid(s) == (did || handle));
    bool split = mj_path_split(s, &collection, &rkey);
    if (split) {
        REQUIRE(mj_nsid_valid(collection) && mj_rkey_valid(rkey));
        REQUIRE(collection.ptr == data && rkey.ptr + rkey.len == data + size);
        REQUIRE(collection.len + 1 + rkey.len == size);
    }
    bool tid = mj_tid_valid(s);
    if (tid) {
        char text[14];
        unsigned clock = 0;
        for (int i = 11; i < 13; i++)
            clock = clock << 5 | (unsigned)(data[i] >= 'a' ? data[i] - 'a' + 6 : data[i] - '2');
        mj_tid_make(mj_tid_time_us(s), clock, text);
        /* From 'c' on the first digit sets the bit above the time's, which is not kept. */
        bool kept = data[0] < 'c';
        REQUIRE(mj_tid_valid(mj_str(text)) && mj_rkey_valid(s));
        REQUIRE(memcmp(text + !kept, data + !kept, (size_t)(13 - !kept)) == 0);
    }
    int64_t us = 0, again = 0;
    bool time = mj_datetime_valid(s);
    REQUIRE((mj_datetime_us(s, &us) == 0) == time);
    if (time) {
        char text[28];
        mj_datetime_make(us, text);
        /* An offset can lead past year 9999, which has no four-digit spelling. */
        if (us <= 253402300799999999)
            REQUIRE(mj_datetime_us(mj_str(text), &again) == 0 && again == us);
    }
    /* These are printed into JSON without looking for escapes. */
    if (did || nsid || split || tid || time || mj_rkey_valid(s))
        REQUIRE(ascii(s));

    if (size < 4000) {
        char uri[4100] = "at://";
        memcpy(uri + 5, data, size);
        bool valid = mj_aturi_valid(mj_span(uri, 5 + size));
        REQUIRE(valid || !(did || handle));
    }
    REQUIRE(!mj_aturi_valid(s) || memcmp(data, "at://", 5) == 0);

    uint8_t cid[MJ_CID_MAX];
    int n = mj_cid_from_text(s, cid);
    if (n > 0) {
        char text[1 + (MJ_CID_MAX * 8 + 4) / 5];
        REQUIRE(mj_cid_text(mj_span(cid, (size_t)n), text) == size);
        REQUIRE(memcmp(text, data, size) == 0 && mj_cid_text_valid(s));
    }
    return 0;
}
