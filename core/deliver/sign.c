#include "deliver/sign.h"

#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdio.h>

#include "base/err.h"

#define SECRET_MIN  24 /* bytes, as the specification has it */
#define SECRET_MAX  64
#define SECRET_MADE 32
#define SEED        32 /* of Ed25519; as long as its public key */
#define PAIR        64 /* the seed and the public key */
#define HASH        32
#define SIGNATURE   64
#define TEXT_MAX    256 /* characters of a secret */
#define LIST_MAX    64  /* signatures that are looked at */

struct mj_sign_key {
    EVP_MAC_CTX *mac; /* owned: begun with the secret, and copied for each message; or NULL */
    EVP_PKEY *pkey;   /* owned: Ed25519; or NULL */
    bool signs;
};

/* ---- base64 ---- */

static bool is_base64(struct mj_span s)
{
    size_t end = s.len;
    while (end && s.len - end < 2 && s.ptr[end - 1] == '=')
        end--;
    for (size_t i = 0; i < end; i++) {
        uint8_t c = s.ptr[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/'))
            return false;
    }
    return s.len && s.len % 4 == 0;
}

/* The number of bytes in `out`, or MJ_ESYNTAX. `text` has TEXT_MAX characters at most. */
static int from_base64(struct mj_span text, uint8_t out[TEXT_MAX])
{
    if (text.len > TEXT_MAX || !is_base64(text))
        return MJ_ESYNTAX;
    int n = EVP_DecodeBlock(out, text.ptr, (int)text.len);
    for (size_t i = text.len; i && text.ptr[i - 1] == '='; i--)
        n--;
    return n < 0 ? MJ_ESYNTAX : n;
}

static void put_base64(struct mj_buf *out, const char *before, const uint8_t *bytes, size_t n)
{
    mj_buf_puts(out, before);
    mj_buf_reserve(out, (n + 2) / 3 * 4 + 1); /* and the NUL that is written, too */
    out->len += (size_t)EVP_EncodeBlock(out->ptr + out->len, bytes, (int)n);
}

/* ---- keys ---- */

static EVP_MAC_CTX *mac_start(const uint8_t *secret, size_t n)
{
    char hash[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, hash, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac); /* the context holds on to it */
    if (ctx && EVP_MAC_init(ctx, secret, n, params) != 1) {
        EVP_MAC_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

/* An Ed25519 key of 32 or 64 bytes; NULL when the second half is not the public key of the first.
 */
static EVP_PKEY *private_key(const uint8_t *bytes, size_t n)
{
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, bytes, SEED);
    uint8_t public[SEED];
    size_t len = sizeof public;
    if (key && n == PAIR &&
        (EVP_PKEY_get_raw_public_key(key, public, &len) != 1 || len != SEED ||
         memcmp(public, bytes + SEED, SEED) != 0)) {
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

static const char make_one[] = "`moonjet webhook secret` makes one";

static int read_key(struct mj_span prefix, struct mj_span text, struct mj_sign_key *key,
                    struct mj_buf *error)
{
    uint8_t bytes[TEXT_MAX];
    const char *name = (const char *)prefix.ptr;
    int n = from_base64(text, bytes), err = 0;
    if (n < 0) {
        mj_buf_printf(error, "what follows %s is not base64, or is cut short; %s", name, make_one);
        err = MJ_EKEY;
    } else if (mj_span_is(prefix, "whsec_")) {
        if (n < SECRET_MIN || n > SECRET_MAX) {
            mj_buf_printf(error, "the whsec_ secret has %d bytes; %d to %d are needed; %s", n,
                          SECRET_MIN, SECRET_MAX, make_one);
            err = MJ_EKEY;
        } else {
            key->mac = mac_start(bytes, (size_t)n);
            key->signs = true;
        }
    } else if (mj_span_is(prefix, "whsk_")) {
        if (n == SEED || n == PAIR)
            key->pkey = private_key(bytes, (size_t)n);
        key->signs = true;
    } else if (n == SEED) {
        key->pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, bytes, SEED);
    }
    if (!err && !key->mac && !key->pkey) {
        mj_buf_printf(error,
                      "what follows %s is no Ed25519 key; `moonjet webhook secret --ed25519` "
                      "makes one",
                      name);
        err = MJ_EKEY;
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    return err;
}

static bool is_blank(uint8_t c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

int mj_sign_key_parse(struct mj_span text, struct mj_sign_key **out, struct mj_buf *error)
{
    static const char *const prefixes[] = {"whsec_", "whsk_", "whpk_"};
    *out = NULL;
    while (text.len && is_blank(text.ptr[0]))
        text = mj_span(text.ptr + 1, text.len - 1);
    while (text.len && is_blank(text.ptr[text.len - 1]))
        text.len--;
    for (size_t i = 0; i < MJ_COUNT(prefixes); i++) {
        struct mj_span prefix = mj_str(prefixes[i]);
        if (!mj_span_starts(text, prefix))
            continue;
        struct mj_sign_key *key = mj_calloc(1, sizeof *key);
        int err =
            read_key(prefix, mj_span(text.ptr + prefix.len, text.len - prefix.len), key, error);
        if (err)
            mj_sign_key_free(key);
        else
            *out = key;
        return err;
    }
    mj_buf_printf(error,
                  "the webhook's secret is %s; it begins with whsec_, or whsk_ for Ed25519; %s",
                  text.len ? "plain text" : "empty", make_one);
    return MJ_EKEY;
}

void mj_sign_key_free(struct mj_sign_key *key)
{
    if (!key)
        return;
    EVP_MAC_CTX_free(key->mac); /* wipes what it held; so does the next */
    EVP_PKEY_free(key->pkey);
    free(key);
}

bool mj_sign_key_signs(const struct mj_sign_key *key) { return key->signs; }

int mj_sign_key_public(const struct mj_sign_key *key, struct mj_buf *out)
{
    uint8_t bytes[SEED];
    size_t n = sizeof bytes;
    if (!key->pkey || EVP_PKEY_get_raw_public_key(key->pkey, bytes, &n) != 1)
        return MJ_EINVAL;
    put_base64(out, "whpk_", bytes, n);
    return 0;
}

/* ---- messages ---- */

/* "ID.TIMESTAMP." */
static void put_front(struct mj_buf *out, struct mj_span id, struct mj_span timestamp)
{
    mj_buf_put(out, id.ptr, id.len);
    mj_buf_putc(out, '.');
    mj_buf_put(out, timestamp.ptr, timestamp.len);
    mj_buf_putc(out, '.');
}

static int hmac(const EVP_MAC_CTX *begun, struct mj_span front, struct mj_span body,
                uint8_t out[HASH])
{
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_dup(begun);
    size_t n = 0;
    bool ok = ctx && EVP_MAC_update(ctx, front.ptr, front.len) == 1 &&
              EVP_MAC_update(ctx, body.ptr, body.len) == 1 &&
              EVP_MAC_final(ctx, out, &n, HASH) == 1 && n == HASH;
    EVP_MAC_CTX_free(ctx);
    return ok ? 0 : MJ_ENOMEM;
}

/* Ed25519 wants the message in one piece: `whole` is made when it is first needed. */
static int join(struct mj_buf *whole, struct mj_span front, struct mj_span body)
{
    if (whole->len)
        return 0;
    int err = mj_buf_try_reserve(whole, front.len + body.len);
    if (err)
        return err;
    mj_buf_put(whole, front.ptr, front.len);
    if (body.len)
        mj_buf_put(whole, body.ptr, body.len);
    return 0;
}

static int ed25519(EVP_PKEY *key, struct mj_span message, uint8_t out[SIGNATURE])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t n = SIGNATURE;
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestSign(ctx, out, &n, message.ptr, message.len) == 1 && n == SIGNATURE;
    EVP_MD_CTX_free(ctx);
    return ok ? 0 : MJ_ENOMEM;
}

static bool ed25519_fits(EVP_PKEY *key, struct mj_span message, const uint8_t signature[SIGNATURE])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestVerify(ctx, signature, SIGNATURE, message.ptr, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

int mj_sign(const struct mj_sign_key *const *keys, size_t n, const struct mj_signed *what,
            struct mj_buf *out)
{
    MJ_AUTO_BUF front = {0};
    MJ_AUTO_BUF whole = {0};
    char timestamp[24];
    int err = 0, len = snprintf(timestamp, sizeof timestamp, "%" PRId64, what->timestamp_s);
    put_front(&front, what->id, mj_span(timestamp, (size_t)len));
    for (size_t i = 0; i < n && !err; i++) {
        uint8_t bytes[SIGNATURE];
        const struct mj_sign_key *key = keys[i];
        if (!key->signs) {
            err = MJ_EINVAL;
        } else if (key->mac) {
            err = hmac(key->mac, mj_buf_span(&front), what->body, bytes);
        } else {
            err = join(&whole, mj_buf_span(&front), what->body);
            err = err ? err : ed25519(key->pkey, mj_buf_span(&whole), bytes);
        }
        if (!err)
            put_base64(out,
                       i          ? key->mac ? " v1," : " v1a,"
                       : key->mac ? "v1,"
                                  : "v1a,",
                       bytes, key->mac ? HASH : SIGNATURE);
    }
    return err;
}

/* ---- checking ---- */

/* The list of signatures, one by one; false at the end. */
static bool next_signature(struct mj_span *rest, struct mj_span *out)
{
    while (rest->len && *rest->ptr == ' ')
        *rest = mj_span(rest->ptr + 1, rest->len - 1);
    if (!rest->len)
        return false;
    const uint8_t *end = memchr(rest->ptr, ' ', rest->len);
    *out = mj_span(rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len);
    *rest = mj_span(rest->ptr + out->len, rest->len - out->len);
    return true;
}

/* What the signatures were, for the sentence when none fits. */
struct seen {
    size_t v1, v1a, malformed, other;
};

static bool fits(const struct mj_sign_key *key, struct mj_span front, struct mj_span body,
                 struct mj_buf *whole, struct mj_span signature, struct seen *seen)
{
    const struct mj_span v1 = MJ_SPAN("v1,"), v1a = MJ_SPAN("v1a,");
    uint8_t given[TEXT_MAX], made[HASH];
    bool symmetric = mj_span_starts(signature, v1);
    if (!symmetric && !mj_span_starts(signature, v1a)) {
        seen->other++;
        return false;
    }
    size_t skip = symmetric ? v1.len : v1a.len;
    int n = from_base64(mj_span(signature.ptr + skip, signature.len - skip), given);
    if (n != (symmetric ? HASH : SIGNATURE)) {
        seen->malformed++;
        return false;
    }
    if (symmetric)
        seen->v1++;
    else
        seen->v1a++;
    if (symmetric)
        return key->mac && !hmac(key->mac, front, body, made) &&
               CRYPTO_memcmp(given, made, HASH) == 0;
    return key->pkey && !join(whole, front, body) &&
           ed25519_fits(key->pkey, mj_buf_span(whole), given);
}

/* Says what is wrong when no signature fits; MJ_ESYNTAX or MJ_ESIG. */
static int explain(const struct mj_sign_key *const *keys, size_t n, const struct seen *seen,
                   struct mj_buf *why)
{
    size_t macs = 0;
    for (size_t i = 0; i < n; i++)
        macs += keys[i]->mac != NULL;
    if (!seen->v1 && !seen->v1a) {
        mj_buf_puts(why, seen->malformed
                             ? "webhook-signature has a signature that is not whole base64"
                             : "webhook-signature has no v1 or v1a signature");
        return MJ_ESYNTAX;
    }
    if (!seen->v1 && macs == n)
        mj_buf_puts(why, "it is signed with Ed25519 only (v1a), and no whpk_ key is given");
    else if (!seen->v1a && !macs)
        mj_buf_puts(why, "it is signed with a whsec_ secret only (v1), and none is given");
    else
        mj_buf_puts(why, "no signature fits: another secret, or a body or id that was changed on "
                         "the way; what counts are the bytes of the body as they came");
    return MJ_ESIG;
}

int mj_sign_verify(const struct mj_sign_key *const *keys, size_t n,
                   const struct mj_sign_headers *headers, struct mj_span body, int64_t now_s,
                   int64_t tolerance_s, size_t *which, struct mj_buf *why)
{
    const struct {
        const char *name;
        struct mj_span value;
    } needed[] = {{"webhook-id", headers->id},
                  {"webhook-timestamp", headers->timestamp},
                  {"webhook-signature", headers->signature}};
    for (size_t i = 0; i < MJ_COUNT(needed); i++)
        if (!needed[i].value.len) {
            mj_buf_printf(why, "the header %s is %s", needed[i].name,
                          needed[i].value.ptr ? "empty" : "missing");
            return MJ_ENOENT;
        }
    if (memchr(headers->id.ptr, '.', headers->id.len)) {
        mj_buf_puts(why, "webhook-id has a '.', which separates what is signed");
        return MJ_ESYNTAX;
    }
    int64_t timestamp;
    if (mj_span_i64(headers->timestamp, &timestamp) || timestamp < 0) {
        mj_buf_puts(why, "webhook-timestamp is not a number of Unix seconds");
        return MJ_ESYNTAX;
    }
    MJ_AUTO_BUF front = {0};
    MJ_AUTO_BUF whole = {0};
    put_front(&front, headers->id, headers->timestamp);
    struct mj_span rest = headers->signature, signature;
    struct seen seen = {0};
    bool found = false;
    for (size_t j = 0; j < LIST_MAX && !found && next_signature(&rest, &signature); j++)
        for (size_t i = 0; i < n && !found; i++)
            if ((found = fits(keys[i], mj_buf_span(&front), body, &whole, signature, &seen)) &&
                which)
                *which = i;
    if (!found)
        return explain(keys, n, &seen, why);
    int64_t age = now_s - timestamp;
    if (age > tolerance_s || age < -tolerance_s) {
        mj_buf_printf(why,
                      "the signature is right, but webhook-timestamp is %" PRId64
                      " seconds %s; %" PRId64 " are allowed: a clock is wrong, or an old delivery "
                      "is sent again by somebody else",
                      age < 0 ? -age : age, age < 0 ? "in the future" : "old", tolerance_s);
        return MJ_ELIMIT;
    }
    return 0;
}

/* ---- GitHub's ---- */

int mj_sign_github(struct mj_span secret, struct mj_span body, char out[MJ_SIGN_GITHUB_LEN + 1])
{
    static const char digits[] = "0123456789abcdef", front[] = "sha256=";
    uint8_t made[HASH];
    EVP_MAC_CTX *begun = secret.len ? mac_start(secret.ptr, secret.len) : NULL;
    int err = begun ? hmac(begun, (struct mj_span){NULL, 0}, body, made) : MJ_EINVAL;
    EVP_MAC_CTX_free(begun);
    out[0] = '\0';
    if (err)
        return err;
    char *p = out;
    memcpy(p, front, sizeof front - 1);
    p += sizeof front - 1;
    for (size_t i = 0; i < HASH; i++) {
        *p++ = digits[made[i] >> 4];
        *p++ = digits[made[i] & 15];
    }
    *p = '\0';
    return 0;
}

int mj_sign_github_verify(struct mj_span secret, struct mj_span header, struct mj_span body,
                          struct mj_buf *why)
{
    char made[MJ_SIGN_GITHUB_LEN + 1];
    if (!header.ptr) {
        mj_buf_puts(why, "the header X-Hub-Signature-256 is missing");
        return MJ_ENOENT;
    }
    if (header.len != MJ_SIGN_GITHUB_LEN || !mj_span_starts(header, MJ_SPAN("sha256="))) {
        mj_buf_puts(why, "X-Hub-Signature-256 is not sha256= and 64 hex digits");
        return MJ_ESYNTAX;
    }
    int err = mj_sign_github(secret, body, made);
    if (err)
        return err;
    if (CRYPTO_memcmp(made, header.ptr, header.len) != 0) {
        mj_buf_puts(why, "X-Hub-Signature-256 does not fit: another secret, or a body that was "
                         "changed on the way");
        return MJ_ESIG;
    }
    return 0;
}

/* ---- new ones ---- */

int mj_sign_make_secret(struct mj_buf *out)
{
    uint8_t bytes[SECRET_MADE];
    if (RAND_priv_bytes(bytes, sizeof bytes) != 1)
        return MJ_EIO;
    put_base64(out, "whsec_", bytes, sizeof bytes);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return 0;
}

int mj_sign_make_pair(struct mj_buf *private_text, struct mj_buf *public_text)
{
    uint8_t bytes[PAIR];
    size_t n = SEED;
    int err = MJ_EIO;
    EVP_PKEY *key = NULL;
    if (RAND_priv_bytes(bytes, SEED) == 1)
        key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, bytes, SEED);
    if (key && EVP_PKEY_get_raw_public_key(key, bytes + SEED, &n) == 1 && n == SEED) {
        put_base64(private_text, "whsk_", bytes, PAIR);
        put_base64(public_text, "whpk_", bytes + SEED, SEED);
        err = 0;
    }
    EVP_PKEY_free(key);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return err;
}
