#include "deliver/identity.h"

#include <stdio.h>

#include "atproto/keys.h"
#include "atproto/syntax.h"
#include "base/err.h"
#include "base/http.h"
#include "base/json.h"

#define ENTRIES_MAX 100 /* of one list that are looked at */

/* The text of a member, if it is one; false otherwise. */
static bool text_of(int type, struct mj_span raw, struct mj_buf *out)
{
    out->len = 0;
    if (type == MJ_JSON_STRING)
        mj_json_text(raw, out);
    return type == MJ_JSON_STRING && (!out->len || !memchr(out->ptr, 0, out->len));
}

/* The member of that name; its type or MJ_ENOENT. */
static int member(struct mj_span object, const char *name, struct mj_span *value)
{
    struct mj_span rest = mj_json_inside(object), key;
    MJ_AUTO_BUF text = {0};
    int type;
    while ((type = mj_json_member(&rest, &key, value)) >= 0) {
        text.len = 0;
        mj_json_text(key, &text);
        if (mj_span_is(mj_buf_span(&text), name))
            return type;
    }
    return MJ_ENOENT;
}

static bool member_text(struct mj_span object, const char *name, struct mj_buf *out)
{
    struct mj_span value;
    int type = member(object, name, &value);
    return text_of(type, value, out);
}

static void lower(struct mj_buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        if (b->ptr[i] >= 'A' && b->ptr[i] <= 'Z')
            b->ptr[i] |= 0x20;
}

static void read_handle(struct mj_span list, struct mj_claims *out)
{
    struct mj_span rest = mj_json_inside(list), value;
    MJ_AUTO_BUF text = {0};
    int type;
    for (int i = 0; i < ENTRIES_MAX && (type = mj_json_element(&rest, &value)) >= 0; i++) {
        if (!text_of(type, value, &text) || !mj_span_starts(mj_buf_span(&text), MJ_SPAN("at://")))
            continue;
        mj_buf_shift(&text, 5);
        lower(&text);
        if (!mj_handle_valid(mj_buf_span(&text)) || text.len >= sizeof out->handle)
            continue;
        strcpy(out->handle, mj_buf_cstr(&text));
        return;
    }
}

/* "#atproto", or "DID#atproto". */
static bool has_id(struct mj_span object, struct mj_span did, const char *fragment)
{
    MJ_AUTO_BUF id = {0};
    if (!member_text(object, "id", &id))
        return false;
    struct mj_span s = mj_buf_span(&id);
    if (mj_span_starts(s, did))
        s = mj_span(s.ptr + did.len, s.len - did.len);
    return mj_span_is(s, fragment);
}

/* Keys of the older kinds are bare points. */
static int parse_key(const char *type, struct mj_span text, struct mj_pubkey **key)
{
    enum mj_key_type kind = MJ_KEY_K256;
    if (strcmp(type, "Multikey") == 0)
        return mj_pubkey_parse(text, key);
    if (strcmp(type, "EcdsaSecp256r1VerificationKey2019") == 0)
        kind = MJ_KEY_P256;
    else if (strcmp(type, "EcdsaSecp256k1VerificationKey2019") != 0)
        return MJ_EKEY;
    MJ_AUTO_BUF point = {0};
    if (!text.len || text.ptr[0] != 'z' ||
        mj_base58_decode(mj_span(text.ptr + 1, text.len - 1), &point))
        return MJ_EKEY;
    return mj_pubkey_from_point(kind, mj_buf_span(&point), key);
}

static void read_key(struct mj_span list, struct mj_span did, const char *id, char out[80])
{
    struct mj_span rest = mj_json_inside(list), value;
    MJ_AUTO_BUF controller = {0};
    MJ_AUTO_BUF type = {0};
    MJ_AUTO_BUF text = {0};
    int t;
    for (int i = 0; i < ENTRIES_MAX && (t = mj_json_element(&rest, &value)) >= 0; i++) {
        if (t != MJ_JSON_OBJECT || !has_id(value, did, id) ||
            !member_text(value, "controller", &controller) ||
            !mj_span_eq(mj_buf_span(&controller), did))
            continue;
        struct mj_pubkey *key = NULL;
        if (!member_text(value, "type", &type) ||
            !member_text(value, "publicKeyMultibase", &text) ||
            parse_key(mj_buf_cstr(&type), mj_buf_span(&text), &key))
            return; /* the first counts, even if it is no good */
        char multibase[MJ_MULTIBASE_MAX];
        mj_key_multibase(mj_pubkey_type(key), mj_pubkey_point(key).ptr, multibase);
        snprintf(out, 80, "did:key:%s", multibase);
        mj_pubkey_free(key);
        return;
    }
}

static void read_service(struct mj_span list, struct mj_span did, const char *id,
                         const char *expected, char out[512])
{
    struct mj_span rest = mj_json_inside(list), value;
    MJ_AUTO_BUF type = {0};
    MJ_AUTO_BUF text = {0};
    int t;
    for (int i = 0; i < ENTRIES_MAX && (t = mj_json_element(&rest, &value)) >= 0; i++) {
        if (t != MJ_JSON_OBJECT || !has_id(value, did, id))
            continue;
        struct mj_url url;
        if (!member_text(value, "type", &type) || !mj_span_is(mj_buf_span(&type), expected) ||
            !member_text(value, "serviceEndpoint", &text) ||
            strncasecmp(mj_buf_cstr(&text), "http", 4) != 0 ||
            mj_url_parse(mj_buf_cstr(&text), &url))
            return;
        bool v6 = strchr(url.host, ':') != NULL, usual = url.port == (url.tls ? 443 : 80);
        char port[8] = "";
        if (!usual)
            snprintf(port, sizeof port, ":%d", url.port);
        snprintf(out, 512, "%s://%s%s%s%s", url.tls ? "https" : "http", v6 ? "[" : "", url.host,
                 v6 ? "]" : "", port);
        return;
    }
}

int mj_identity_parse(struct mj_span json, struct mj_span did, struct mj_claims *out)
{
    *out = (struct mj_claims){0};
    struct mj_span rest = json, doc, value;
    if (json.len > MJ_DOCUMENT_MAX || mj_json_take(&rest, &doc) != MJ_JSON_OBJECT || rest.len)
        return MJ_ESYNTAX;
    MJ_AUTO_BUF id = {0};
    if (!member_text(doc, "id", &id) || !mj_span_eq(mj_buf_span(&id), did))
        return MJ_EDID;
    if (member(doc, "alsoKnownAs", &value) == MJ_JSON_ARRAY)
        read_handle(value, out);
    if (member(doc, "verificationMethod", &value) == MJ_JSON_ARRAY) {
        read_key(value, did, "#atproto", out->key);
        read_key(value, did, "#atproto_label", out->label_key);
    }
    if (member(doc, "service", &value) == MJ_JSON_ARRAY) {
        read_service(value, did, "#atproto_pds", "AtprotoPersonalDataServer", out->pds);
        read_service(value, did, "#atproto_labeler", "AtprotoLabeler", out->labeler);
    }
    return 0;
}

bool mj_handle_public(struct mj_span handle)
{
    static const char *const never[] = {".alt",     ".arpa",      ".example", ".internal",
                                        ".invalid", ".localhost", ".local",   ".onion"};
    MJ_AUTO_BUF text = {0};
    mj_buf_put(&text, handle.ptr, handle.len);
    lower(&text);
    for (size_t i = 0; i < MJ_COUNT(never); i++) {
        size_t n = strlen(never[i]);
        if (text.len >= n && memcmp(text.ptr + text.len - n, never[i], n) == 0)
            return false;
    }
    return mj_handle_valid(mj_buf_span(&text));
}

int mj_identity_url(struct mj_span did, const char *plc, struct mj_buf *url)
{
    const struct mj_span by_plc = MJ_SPAN("did:plc:"), by_web = MJ_SPAN("did:web:");
    if (!mj_did_valid(did))
        return MJ_EDID;
    if (mj_span_starts(did, by_plc)) {
        for (size_t i = by_plc.len; i < did.len; i++) {
            uint8_t c = did.ptr[i];
            if (!(c >= 'a' && c <= 'z') && !(c >= '2' && c <= '7'))
                return MJ_EDID;
        }
        if (did.len != by_plc.len + 24)
            return MJ_EDID;
        size_t n = strlen(plc);
        mj_buf_put(url, plc, n && plc[n - 1] == '/' ? n - 1 : n);
        mj_buf_putc(url, '/');
        mj_buf_put(url, did.ptr, did.len);
        return 0;
    }
    if (!mj_span_starts(did, by_web))
        return MJ_EDID;
    struct mj_span host = mj_span(did.ptr + by_web.len, did.len - by_web.len);
    const struct mj_span local = MJ_SPAN("localhost");
    if (mj_span_starts(host, local) && (host.len == local.len || host.ptr[local.len] == '%')) {
        /* For tests: a port, and no TLS. It is reached only if the operator allows it. */
        struct mj_span port = mj_span(host.ptr + local.len, host.len - local.len);
        int64_t number = 80;
        if (port.len && (port.len < 4 || strncasecmp((const char *)port.ptr, "%3A", 3) != 0 ||
                         port.ptr[3] < '0' || port.ptr[3] > '9' ||
                         mj_span_i64(mj_span(port.ptr + 3, port.len - 3), &number) || number < 1 ||
                         number > 65535))
            return MJ_EDID;
        mj_buf_printf(url, "http://localhost:%d/.well-known/did.json", (int)number);
        return 0;
    }
    /* A host looks as a handle does; with that, neither ports nor paths nor addresses get through.
     */
    if (!mj_handle_public(host))
        return MJ_EDID;
    mj_buf_puts(url, "https://");
    mj_buf_put(url, host.ptr, host.len);
    mj_buf_puts(url, "/.well-known/did.json");
    return 0;
}
