/* Tokens of service auth: what is read is well-formed whatever the token says, and a signature that
 * was turned round verifies no worse. */
#include "atproto/jwt.h"
#include "atproto/syntax.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mj_jwt jwt;
    struct mj_jwt_fault fault = {0};
    struct mj_keypair k;
    struct mj_pubkey *key;
    int err = mj_jwt_parse(mj_span(data, n), &jwt);
    if (err) {
        fault = mj_jwt_parse_fault(err);
        if (!fault.name || !fault.message)
            abort();
        return 0;
    }
    if (!mj_did_valid(mj_str(jwt.iss)) || !*jwt.aud || jwt.exp < 0 || jwt.nbf < 0 || jwt.iat < 0 ||
        jwt.signed_part.len >= n)
        abort();
    if (!mj_jwt_check(&jwt, "did:web:x.example", "#bsky_fg", "a.b.c", 1767225600, &fault) &&
        !fault.name)
        abort();
    mj_keypair_derive(jwt.type, MJ_SPAN("fuzz"), &k);
    if (mj_pubkey_from_point(k.type, mj_span(k.point, MJ_POINT_LEN), &key))
        abort();
    mj_jwt_verify(&jwt, key);
    mj_keypair_sign(&k, jwt.signed_part, jwt.sig);
    if (mj_jwt_verify(&jwt, key))
        abort();
    mj_pubkey_free(key);
    return 0;
}
