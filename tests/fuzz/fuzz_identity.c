/* DID documents, and DIDs: what is read is well-formed whatever the document says, and where a DID
 * leads is an http(s) address of a host, never a part of the DID that pretends to be more. */
#include "atproto/keys.h"
#include "atproto/syntax.h"
#include "base/err.h"
#include "base/http.h"
#include "deliver/identity.h"

#define DID "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

static void as_document(struct mj_span in)
{
    struct mj_claims c;
    struct mj_url url;
    struct mj_pubkey *key;
    if (mj_identity_parse(in, mj_str(DID), &c))
        return;
    if (*c.handle && !mj_handle_valid(mj_str(c.handle)))
        abort();
    for (const char *p = c.handle; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            abort();
    if (*c.pds && (mj_url_parse(c.pds, &url) || url.has_path))
        abort();
    if (*c.labeler && (mj_url_parse(c.labeler, &url) || url.has_path))
        abort();
    const char *const keys[] = {c.key, c.label_key};
    for (size_t i = 0; i < MJ_COUNT(keys); i++)
        if (*keys[i]) {
            if (mj_pubkey_parse(mj_str(keys[i]), &key))
                abort();
            mj_pubkey_free(key);
        }
}

static void as_did(struct mj_span in)
{
    MJ_AUTO_BUF text = {0};
    struct mj_url url;
    if (mj_identity_url(in, "https://plc.example", &text))
        return;
    if (mj_url_parse(mj_buf_cstr(&text), &url) || strpbrk(url.path, "?#%"))
        abort();
    bool plc = strcmp(url.host, "plc.example") == 0 && mj_span_starts(in, MJ_SPAN("did:plc:"));
    bool local = strcmp(url.host, "localhost") == 0;
    if (!plc && !local && (url.port != 443 || !url.tls || !mj_handle_public(mj_str(url.host))))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    as_document(mj_span(data, n));
    as_did(mj_span(data, n));
    return 0;
}
