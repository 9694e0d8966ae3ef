#include "atproto/keys.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/obj_mac.h>
#include <openssl/params.h>
#include <pthread.h>
#include <secp256k1.h>

#include "atproto/cid.h"
#include "base/err.h"

#define BASE58_TEXT_MAX 128

static const char base58[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
static const uint8_t codec[][2] = {[MJ_KEY_K256] = {0xe7, 0x01}, [MJ_KEY_P256] = {0x80, 0x24}};
static const uint8_t private_codec[][2] = {
    [MJ_KEY_K256] = {0x81, 0x26}, [MJ_KEY_P256] = {0x86, 0x26}};
/* n/2 of P-256: the largest s that atproto accepts. */
static const uint8_t p256_half[32] = {
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8};

struct mj_pubkey {
    enum mj_key_type type;
    uint8_t point[MJ_POINT_LEN];
    secp256k1_pubkey k256;
    EVP_PKEY *p256; /* owned; NULL for K-256 */
};

/* Both are built once and never changed afterwards, so threads may share them. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static secp256k1_context *k256_context;
static EC_GROUP *p256_group;

static void build_curves(void)
{
    k256_context = secp256k1_context_create(SECP256K1_CONTEXT_SIGN | SECP256K1_CONTEXT_VERIFY);
    p256_group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    if (!k256_context || !p256_group)
        abort();
}

/* For what only fails for lack of memory. */
static void must(int good)
{
    if (good != 1)
        abort();
}

static void curves(void) { pthread_once(&once, build_curves); }

void mj_base58_encode(struct mj_span in, struct mj_buf *out)
{
    size_t zeros = 0;
    while (zeros < in.len && in.ptr[zeros] == 0)
        zeros++;
    size_t cap = (in.len - zeros) * 138 / 100 + 1, n = 0;
    uint8_t *digits = mj_calloc(cap, 1); /* least significant first */
    for (size_t i = zeros; i < in.len; i++) {
        unsigned carry = in.ptr[i];
        for (size_t j = 0; j < n || carry; j++) {
            if (j == n)
                n++;
            carry += 256u * digits[j];
            digits[j] = (uint8_t)(carry % 58);
            carry /= 58;
        }
    }
    for (size_t i = 0; i < zeros; i++)
        mj_buf_putc(out, base58[0]);
    while (n)
        mj_buf_putc(out, base58[digits[--n]]);
    free(digits);
}

int mj_base58_decode(struct mj_span in, struct mj_buf *out)
{
    if (in.len > BASE58_TEXT_MAX)
        return MJ_ELIMIT;
    uint8_t bytes[BASE58_TEXT_MAX]; /* least significant first */
    size_t n = 0, zeros = 0;
    while (zeros < in.len && in.ptr[zeros] == (uint8_t)base58[0])
        zeros++;
    for (size_t i = zeros; i < in.len; i++) {
        const char *at = in.ptr[i] ? strchr(base58, in.ptr[i]) : NULL;
        if (!at)
            return MJ_ESYNTAX;
        unsigned carry = (unsigned)(at - base58);
        for (size_t j = 0; j < n || carry; j++) {
            if (j == n)
                bytes[n++] = 0;
            carry += 58u * bytes[j];
            bytes[j] = (uint8_t)carry;
            carry >>= 8;
        }
    }
    for (size_t i = 0; i < zeros; i++)
        mj_buf_putc(out, '\0');
    while (n)
        mj_buf_putc(out, (char)bytes[--n]);
    return 0;
}

/* The OpenSSL object of a P-256 point, or NULL when the point is not on the curve. */
static EVP_PKEY *p256_pkey(const uint8_t *point, size_t len)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    char group[] = "P-256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point, len),
        OSSL_PARAM_construct_end()};
    if (!ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* Compresses a P-256 point that OpenSSL has already accepted. */
static bool p256_compress(const uint8_t *point, size_t len, uint8_t out[MJ_POINT_LEN])
{
    EC_POINT *p = EC_POINT_new(p256_group);
    bool good = p && EC_POINT_oct2point(p256_group, p, point, len, NULL) == 1 &&
                EC_POINT_point2oct(p256_group, p, POINT_CONVERSION_COMPRESSED, out, MJ_POINT_LEN,
                                   NULL) == MJ_POINT_LEN;
    EC_POINT_free(p);
    return good;
}

int mj_pubkey_from_point(enum mj_key_type type, struct mj_span point, struct mj_pubkey **out)
{
    bool shape = (point.len == 33 && (point.ptr[0] == 2 || point.ptr[0] == 3)) ||
                 (point.len == 65 && point.ptr[0] == 4);
    if (!shape)
        return MJ_EKEY;
    curves();
    struct mj_pubkey *k = mj_calloc(1, sizeof *k);
    k->type = type;
    bool good;
    if (type == MJ_KEY_K256) {
        size_t n = sizeof k->point;
        good = secp256k1_ec_pubkey_parse(k256_context, &k->k256, point.ptr, point.len) &&
               secp256k1_ec_pubkey_serialize(k256_context, k->point, &n, &k->k256,
                                             SECP256K1_EC_COMPRESSED);
    } else {
        k->p256 = p256_pkey(point.ptr, point.len);
        good = k->p256 && p256_compress(point.ptr, point.len, k->point);
    }
    if (!good) {
        mj_pubkey_free(k);
        return MJ_EKEY;
    }
    *out = k;
    return 0;
}

int mj_pubkey_parse(struct mj_span text, struct mj_pubkey **out)
{
    if (mj_span_starts(text, MJ_SPAN("did:key:")))
        text = mj_span(text.ptr + 8, text.len - 8);
    if (!text.len || text.ptr[0] != 'z')
        return MJ_ESYNTAX;
    MJ_AUTO_BUF bytes = {0};
    int r = mj_base58_decode(mj_span(text.ptr + 1, text.len - 1), &bytes);
    if (r)
        return MJ_ESYNTAX;
    for (size_t t = 0; t < MJ_COUNT(codec); t++)
        if (bytes.len == 2 + MJ_POINT_LEN && memcmp(bytes.ptr, codec[t], 2) == 0)
            return mj_pubkey_from_point((enum mj_key_type)t, mj_span(bytes.ptr + 2, MJ_POINT_LEN),
                                        out);
    return MJ_EKEY;
}

void mj_pubkey_free(struct mj_pubkey *k)
{
    if (!k)
        return;
    EVP_PKEY_free(k->p256);
    free(k);
}

enum mj_key_type mj_pubkey_type(const struct mj_pubkey *k) { return k->type; }
struct mj_span mj_pubkey_point(const struct mj_pubkey *k) { return mj_span(k->point, 33); }

/* One DER integer: no needless leading zeros, a zero byte before a set top bit. */
static size_t der_integer(const uint8_t v[32], uint8_t *out)
{
    size_t skip = 0;
    while (skip < 31 && v[skip] == 0)
        skip++;
    size_t pad = v[skip] >> 7, n = 32 - skip;
    out[0] = 0x02;
    out[1] = (uint8_t)(n + pad);
    out[2] = 0;
    memcpy(out + 2 + pad, v + skip, n);
    return 2 + pad + n;
}

static bool p256_verify(const struct mj_pubkey *k, const uint8_t hash[32], const uint8_t *sig)
{
    if (memcmp(sig + 32, p256_half, 32) > 0)
        return false;
    uint8_t der[80];
    size_t n = 2;
    n += der_integer(sig, der + n);
    n += der_integer(sig + 32, der + n);
    der[0] = 0x30;
    der[1] = (uint8_t)(n - 2);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(k->p256, NULL);
    bool good =
        ctx && EVP_PKEY_verify_init(ctx) == 1 && EVP_PKEY_verify(ctx, der, n, hash, 32) == 1;
    EVP_PKEY_CTX_free(ctx);
    return good;
}

int mj_pubkey_verify(const struct mj_pubkey *k, struct mj_span message, struct mj_span sig)
{
    if (sig.len != MJ_SIG_LEN)
        return MJ_ESIG;
    uint8_t hash[32];
    mj_sha256(message, hash);
    if (k->type == MJ_KEY_P256)
        return p256_verify(k, hash, sig.ptr) ? 0 : MJ_ESIG;
    secp256k1_ecdsa_signature s; /* the library refuses a high s by itself */
    bool good = secp256k1_ecdsa_signature_parse_compact(k256_context, &s, sig.ptr) &&
                secp256k1_ecdsa_verify(k256_context, &s, hash, &k->k256);
    return good ? 0 : MJ_ESIG;
}

static void p256_lower(uint8_t sig[MJ_SIG_LEN])
{
    const BIGNUM *n = EC_GROUP_get0_order(p256_group);
    BIGNUM *s = BN_bin2bn(sig + 32, 32, NULL);
    must(s != NULL);
    if (BN_cmp(s, n) < 0) {
        must(BN_sub(s, n, s));
        must(BN_bn2binpad(s, sig + 32, 32) == 32);
    }
    BN_free(s);
}

void mj_sig_lower(enum mj_key_type type, uint8_t sig[MJ_SIG_LEN])
{
    curves();
    if (type == MJ_KEY_P256) {
        if (memcmp(sig + 32, p256_half, 32) > 0)
            p256_lower(sig);
        return;
    }
    secp256k1_ecdsa_signature s;
    if (secp256k1_ecdsa_signature_parse_compact(k256_context, &s, sig) &&
        secp256k1_ecdsa_signature_normalize(k256_context, &s, &s))
        secp256k1_ecdsa_signature_serialize_compact(k256_context, sig, &s);
}

size_t mj_key_multibase(enum mj_key_type type, const uint8_t point[MJ_POINT_LEN],
                        char out[MJ_MULTIBASE_MAX])
{
    uint8_t bytes[2 + MJ_POINT_LEN];
    memcpy(bytes, codec[type], 2);
    memcpy(bytes + 2, point, MJ_POINT_LEN);
    MJ_AUTO_BUF text = {0};
    mj_buf_putc(&text, 'z');
    mj_base58_encode(mj_span(bytes, sizeof bytes), &text);
    memcpy(out, mj_buf_cstr(&text), text.len + 1); /* 35 bytes are at most 48 digits */
    return text.len;
}

/* P-256 is computed below on OpenSSL's numbers because its own signer takes random nonces, and a
 * simulation must give the same bytes for the same seed. */

static bool p256_public(struct mj_keypair *k)
{
    BIGNUM *d = BN_bin2bn(k->secret, 32, NULL);
    EC_POINT *p = EC_POINT_new(p256_group);
    bool good = d && p && !BN_is_zero(d) && BN_cmp(d, EC_GROUP_get0_order(p256_group)) < 0;
    if (good) {
        must(EC_POINT_mul(p256_group, p, d, NULL, NULL, NULL));
        good = EC_POINT_point2oct(p256_group, p, POINT_CONVERSION_COMPRESSED, k->point,
                                  MJ_POINT_LEN, NULL) == MJ_POINT_LEN;
    }
    EC_POINT_free(p);
    BN_free(d);
    return good;
}

int mj_keypair_from_secret(enum mj_key_type type, const uint8_t secret[32], struct mj_keypair *out)
{
    curves();
    out->type = type;
    memcpy(out->secret, secret, 32);
    if (type == MJ_KEY_P256)
        return p256_public(out) ? 0 : MJ_EKEY;
    secp256k1_pubkey pub;
    size_t n = MJ_POINT_LEN;
    if (!secp256k1_ec_pubkey_create(k256_context, &pub, secret))
        return MJ_EKEY;
    secp256k1_ec_pubkey_serialize(k256_context, out->point, &n, &pub, SECP256K1_EC_COMPRESSED);
    return 0;
}

static int secret_from_hex(struct mj_span text, uint8_t out[32])
{
    if (text.len != 64)
        return MJ_ESYNTAX;
    for (size_t i = 0; i < 32; i++) {
        int high = mj_hex_digit(text.ptr[2 * i]), low = mj_hex_digit(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return MJ_ESYNTAX;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

static int secret_from_multibase(struct mj_span text, enum mj_key_type *type, uint8_t out[32])
{
    struct mj_buf bytes = {0};
    int err = MJ_EKEY;
    if (!text.len || text.ptr[0] != 'z' ||
        mj_base58_decode(mj_span(text.ptr + 1, text.len - 1), &bytes))
        return MJ_ESYNTAX;
    for (size_t t = 0; t < MJ_COUNT(private_codec); t++)
        if (bytes.len == 2 + 32 && memcmp(bytes.ptr, private_codec[t], 2) == 0) {
            *type = (enum mj_key_type)t;
            memcpy(out, bytes.ptr + 2, 32);
            err = 0;
        }
    if (bytes.len)
        OPENSSL_cleanse(bytes.ptr, bytes.len);
    mj_buf_deinit(&bytes);
    return err;
}

int mj_keypair_parse(struct mj_span text, struct mj_keypair *out)
{
    uint8_t secret[32];
    enum mj_key_type type = MJ_KEY_K256;
    int err = secret_from_hex(text, secret);
    if (err)
        err = secret_from_multibase(text, &type, secret);
    if (!err)
        err = mj_keypair_from_secret(type, secret, out);
    OPENSSL_cleanse(secret, sizeof secret);
    return err;
}

void mj_keypair_derive(enum mj_key_type type, struct mj_span seed, struct mj_keypair *out)
{
    MJ_AUTO_BUF in = {0};
    mj_buf_puts(&in, "moonjet keypair");
    mj_buf_putc(&in, (char)type);
    mj_buf_put(&in, seed.ptr, seed.len);
    uint8_t secret[32];
    mj_sha256(mj_buf_span(&in), secret);
    while (mj_keypair_from_secret(type, secret, out))
        mj_sha256(mj_span(secret, 32), secret);
}

/* HMAC-SHA256 over up to three parts. */
static void hmac(const uint8_t key[32], struct mj_span a, struct mj_span b, struct mj_span c,
                 uint8_t out[32])
{
    uint8_t in[32 + 1 + 64];
    size_t n = 0;
    const struct mj_span parts[] = {a, b, c};
    for (size_t i = 0; i < MJ_COUNT(parts); i++)
        if (parts[i].len) {
            memcpy(in + n, parts[i].ptr, parts[i].len);
            n += parts[i].len;
        }
    if (!HMAC(EVP_sha256(), key, 32, in, n, out, NULL))
        abort();
}

/* RFC 6979 §3.2 with SHA-256 and a 256-bit group: V and K after steps a to f. */
struct nonce {
    uint8_t k[32], v[32];
};

static void nonce_init(struct nonce *s, const uint8_t secret[32], const uint8_t hash[32],
                       const BIGNUM *order)
{
    uint8_t both[64]; /* int2octets(x) ‖ bits2octets(h) */
    memcpy(both, secret, 32);
    BIGNUM *h = BN_bin2bn(hash, 32, NULL);
    BN_CTX *ctx = BN_CTX_new();
    must(h && ctx);
    must(BN_nnmod(h, h, order, ctx));
    must(BN_bn2binpad(h, both + 32, 32) == 32);
    BN_free(h);
    BN_CTX_free(ctx);
    memset(s->v, 0x01, 32);
    memset(s->k, 0x00, 32);
    for (int step = 0; step < 2; step++) {
        uint8_t tag = (uint8_t)step;
        hmac(s->k, mj_span(s->v, 32), mj_span(&tag, 1), mj_span(both, 64), s->k);
        hmac(s->k, mj_span(s->v, 32), (struct mj_span){0}, (struct mj_span){0}, s->v);
    }
}

static void nonce_next(struct nonce *s, BIGNUM *k)
{
    hmac(s->k, mj_span(s->v, 32), (struct mj_span){0}, (struct mj_span){0}, s->v);
    must(BN_bin2bn(s->v, 32, k) != NULL);
}

static void nonce_reject(struct nonce *s)
{
    uint8_t tag = 0;
    hmac(s->k, mj_span(s->v, 32), mj_span(&tag, 1), (struct mj_span){0}, s->k);
    hmac(s->k, mj_span(s->v, 32), (struct mj_span){0}, (struct mj_span){0}, s->v);
}

static void p256_sign(const struct mj_keypair *kp, const uint8_t hash[32], uint8_t sig[MJ_SIG_LEN])
{
    const BIGNUM *n = EC_GROUP_get0_order(p256_group);
    BN_CTX *ctx = BN_CTX_new();
    EC_POINT *p = EC_POINT_new(p256_group);
    BIGNUM *k = BN_new(), *r = BN_new(), *s = BN_new(), *z = BN_bin2bn(hash, 32, NULL),
           *d = BN_bin2bn(kp->secret, 32, NULL), *half = BN_bin2bn(p256_half, 32, NULL);
    must(ctx && p && k && r && s && z && d && half);
    struct nonce nonce;
    nonce_init(&nonce, kp->secret, hash, n);
    for (;; nonce_reject(&nonce)) {
        nonce_next(&nonce, k);
        if (BN_is_zero(k) || BN_cmp(k, n) >= 0)
            continue;
        must(EC_POINT_mul(p256_group, p, k, NULL, NULL, ctx));
        must(EC_POINT_get_affine_coordinates(p256_group, p, r, NULL, ctx));
        must(BN_nnmod(r, r, n, ctx));
        must(BN_mod_inverse(k, k, n, ctx) != NULL);
        must(BN_mod_mul(s, r, d, n, ctx)); /* s = (z + r d) / k */
        must(BN_mod_add(s, s, z, n, ctx));
        must(BN_mod_mul(s, s, k, n, ctx));
        if (!BN_is_zero(r) && !BN_is_zero(s))
            break;
    }
    if (BN_cmp(s, half) > 0)
        must(BN_sub(s, n, s));
    must(BN_bn2binpad(r, sig, 32) == 32 && BN_bn2binpad(s, sig + 32, 32) == 32);
    BN_free(k);
    BN_free(r);
    BN_free(s);
    BN_free(z);
    BN_free(d);
    BN_free(half);
    EC_POINT_free(p);
    BN_CTX_free(ctx);
}

void mj_keypair_sign(const struct mj_keypair *k, struct mj_span message, uint8_t sig[MJ_SIG_LEN])
{
    uint8_t hash[32];
    mj_sha256(message, hash);
    curves();
    if (k->type == MJ_KEY_P256) {
        p256_sign(k, hash, sig);
        return;
    }
    secp256k1_ecdsa_signature s; /* low by construction */
    must(secp256k1_ecdsa_sign(k256_context, &s, hash, k->secret, NULL, NULL));
    secp256k1_ecdsa_signature_serialize_compact(k256_context, sig, &s);
}

static EVP_PKEY *p256_private(const struct mj_keypair *k)
{
    uint8_t native[32]; /* OpenSSL wants a number as the machine has it */
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    BIGNUM *d = BN_secure_new();
    char group[] = "P-256";
    must(d && BN_bin2bn(k->secret, 32, d) && BN_bn2nativepad(d, native, 32) == 32);
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                           OSSL_PARAM_construct_octet_string(
                               OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)k->point, MJ_POINT_LEN),
                           OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, native, 32),
                           OSSL_PARAM_construct_end()};
    if (!ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params) <= 0)
        key = NULL;
    OPENSSL_cleanse(native, sizeof native);
    BN_clear_free(d);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static bool p256_sign_safely(const struct mj_keypair *k, const uint8_t hash[32],
                             uint8_t sig[MJ_SIG_LEN])
{
    uint8_t der[80];
    size_t n = sizeof der;
    EVP_PKEY *key = p256_private(k);
    EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    bool good = ctx && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_sign(ctx, der, &n, hash, 32) == 1;
    const uint8_t *at = der;
    ECDSA_SIG *pair = good ? d2i_ECDSA_SIG(NULL, &at, (long)n) : NULL;
    good = pair && BN_bn2binpad(ECDSA_SIG_get0_r(pair), sig, 32) == 32 &&
           BN_bn2binpad(ECDSA_SIG_get0_s(pair), sig + 32, 32) == 32;
    ECDSA_SIG_free(pair);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    if (good)
        mj_sig_lower(MJ_KEY_P256, sig);
    return good;
}

int mj_keypair_sign_safely(const struct mj_keypair *k, struct mj_span message,
                           uint8_t sig[MJ_SIG_LEN])
{
    uint8_t hash[32];
    if (k->type == MJ_KEY_K256) { /* libsecp256k1 takes the same time for every key */
        mj_keypair_sign(k, message, sig);
        return 0;
    }
    curves();
    mj_sha256(message, hash);
    return p256_sign_safely(k, hash, sig) ? 0 : MJ_ENOMEM;
}
