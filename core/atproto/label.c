#include "atproto/label.h"

#include "atproto/cbor.h"
#include "atproto/syntax.h"
#include "base/err.h"

#define VERSION 1

const char *mj_label_check(const struct mj_label *l)
{
    bool record = mj_span_starts(l->uri, MJ_SPAN("at://"));
    if (!l->src.len || !mj_did_valid(l->src))
        return "the labeler's name is no DID";
    if (!l->uri.len || l->uri.len > MJ_LABEL_URI_MAX ||
        !(record ? mj_aturi_valid(l->uri) : mj_did_valid(l->uri)))
        return "what is labelled is neither an at:// address nor a DID";
    if (!l->val.len || l->val.len > MJ_LABEL_VAL_MAX)
        return "a label has 1 to 128 bytes";
    if (memchr(l->val.ptr, 0, l->val.len))
        return "a label has no zero bytes";
    if (l->cid.len && !mj_cid_text_valid(l->cid))
        return "'cid' is no CID";
    if (l->exp.len && !mj_datetime_valid(l->exp))
        return "'exp' is no datetime";
    if (!l->cts.len || !mj_datetime_valid(l->cts))
        return "'cts' is no datetime";
    return NULL;
}

static void put(struct mj_buf *out, const char *name, struct mj_span text)
{
    if (!text.len)
        return;
    mj_cbor_put_text(out, mj_str(name));
    mj_cbor_put_text(out, text);
}

/* All names have three letters, so canonical order is that of the alphabet. */
static void encode(const struct mj_label *l, struct mj_span sig, bool say_false, struct mj_buf *out)
{
    bool neg = l->neg || say_false;
    mj_cbor_put_map(out, 5u + (l->cid.len > 0) + (l->exp.len > 0) + neg + (sig.len > 0));
    put(out, "cid", l->cid);
    put(out, "cts", l->cts);
    put(out, "exp", l->exp);
    if (neg) {
        mj_cbor_put_text(out, MJ_SPAN("neg"));
        mj_cbor_put_bool(out, l->neg);
    }
    if (sig.len) {
        mj_cbor_put_text(out, MJ_SPAN("sig"));
        mj_cbor_put_bytes(out, sig);
    }
    put(out, "src", l->src);
    put(out, "uri", l->uri);
    put(out, "val", l->val);
    mj_cbor_put_text(out, MJ_SPAN("ver"));
    mj_cbor_put_int(out, VERSION);
}

void mj_label_encode(const struct mj_label *l, struct mj_span sig, struct mj_buf *out)
{
    encode(l, sig, false, out);
}

int mj_label_sign(const struct mj_label *l, const struct mj_keypair *key, struct mj_buf *out)
{
    MJ_AUTO_BUF bare = {0};
    uint8_t sig[MJ_SIG_LEN];
    encode(l, mj_span(NULL, 0), false, &bare);
    int err = mj_keypair_sign_safely(key, mj_buf_span(&bare), sig);
    if (!err)
        encode(l, mj_span(sig, sizeof sig), false, out);
    return err;
}

static int read_field(struct mj_span name, const struct mj_cbor_head *value, struct mj_label *out,
                      struct mj_span *sig, bool *version)
{
    const struct {
        const char *name;
        struct mj_span *to;
    } texts[] = {{"src", &out->src}, {"uri", &out->uri}, {"val", &out->val},
                 {"cts", &out->cts}, {"cid", &out->cid}, {"exp", &out->exp}};
    for (size_t i = 0; i < MJ_COUNT(texts); i++) {
        if (!mj_span_is(name, texts[i].name))
            continue;
        *texts[i].to = value->s;
        return value->type == MJ_CBOR_TEXT ? 0 : MJ_EFIELD;
    }
    if (mj_span_is(name, "neg")) {
        out->neg = value->i != 0;
        return value->type == MJ_CBOR_BOOL ? 0 : MJ_EFIELD;
    }
    if (mj_span_is(name, "sig")) {
        *sig = value->s;
        return value->type == MJ_CBOR_BYTES ? 0 : MJ_EFIELD;
    }
    if (mj_span_is(name, "ver")) {
        *version = value->i == VERSION;
        return value->type == MJ_CBOR_INT ? 0 : MJ_EFIELD;
    }
    return 0;
}

int mj_label_parse(struct mj_span in, struct mj_label *out, struct mj_span *sig)
{
    struct mj_cbor c = mj_cbor(in);
    struct mj_cbor_head map, key, value;
    bool version = false;
    int err = mj_cbor_check(in);
    *out = (struct mj_label){0};
    *sig = mj_span(NULL, 0);
    if (err)
        return err;
    if (mj_cbor_next(&c, &map) || map.type != MJ_CBOR_MAP)
        return MJ_EFIELD;
    for (uint64_t i = 0; i < map.n; i++) {
        if (mj_cbor_next(&c, &key))
            return MJ_EFIELD;
        struct mj_cbor at = c;
        if (mj_cbor_next(&at, &value) || mj_cbor_skip(&c))
            return MJ_EFIELD;
        err = read_field(key.s, &value, out, sig, &version);
        if (err)
            return err;
    }
    return version && !mj_label_check(out) ? 0 : MJ_EFIELD;
}

int mj_label_verify(const struct mj_label *l, struct mj_span sig, const struct mj_pubkey *key)
{
    for (int say_false = 0; say_false < (l->neg ? 1 : 2); say_false++) {
        MJ_AUTO_BUF bare = {0};
        encode(l, mj_span(NULL, 0), say_false != 0, &bare);
        if (mj_pubkey_verify(key, mj_buf_span(&bare), sig) == 0)
            return 0;
    }
    return MJ_ESIG;
}
