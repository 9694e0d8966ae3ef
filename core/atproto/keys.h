/* Signing keys of atproto accounts: secp256k1 ("K-256") and P-256, ECDSA over SHA-256, signatures
 * as 64 bytes r‖s with s in the lower half of the group (spec/firehose.md §7.3).
 *
 *   public    struct mj_pubkey, opaque and immutable: parsed once, then shared by readers
 *   private   struct mj_keypair, by value. mj_keypair_sign() is for simulated accounts and tests:
 *             its nonce is that of RFC 6979, so the same key and message always give the same
 *             signature, but it makes no promise about timing. A key that counts for something, as
 *             a labeler's does, signs by mj_keypair_sign_safely().
 *
 * Key text is multibase 'z' + base58btc of a two-byte codec and the compressed point; "did:key:"
 * merely prefixes that. */
#pragma once

#include "base/bytes.h"

#define MJ_SIG_LEN       64
#define MJ_POINT_LEN     33 /* compressed */
#define MJ_MULTIBASE_MAX 64 /* of a key's multibase text with its NUL */

enum mj_key_type { MJ_KEY_K256, MJ_KEY_P256 };

struct mj_pubkey;

struct mj_keypair {
    enum mj_key_type type;
    uint8_t secret[32]; /* big-endian, in 1…n−1 */
    uint8_t point[MJ_POINT_LEN];
};

/* Base58 (Bitcoin's alphabet) without any prefix. Appends to out. */
void mj_base58_encode(struct mj_span in, struct mj_buf *out);
/* Appends the bytes to out. 0, MJ_ESYNTAX, or MJ_ELIMIT beyond 128 characters (the work grows with
 * the square of the length); out is unchanged on error. */
int mj_base58_decode(struct mj_span in, struct mj_buf *out);

/* Parses "z…" or "did:key:z…". 0 with *out owned by the caller; MJ_ESYNTAX for bad text, MJ_EKEY
 * for another codec or a point that is not on its curve. */
int mj_pubkey_parse(struct mj_span text, struct mj_pubkey **out);
/* A bare point, 33 bytes compressed or 65 uncompressed, as the legacy DID document types carry
 * it (behind 'z' and base58btc, without a codec). 0 or MJ_EKEY. */
int mj_pubkey_from_point(enum mj_key_type type, struct mj_span point, struct mj_pubkey **out);
void mj_pubkey_free(struct mj_pubkey *k);
enum mj_key_type mj_pubkey_type(const struct mj_pubkey *k);
/* The compressed point; borrowed, MJ_POINT_LEN bytes. */
struct mj_span mj_pubkey_point(const struct mj_pubkey *k);
/* Verifies a signature over SHA-256(message). 0, or MJ_ESIG: wrong, not 64 bytes, or high-S.
 * Thread-safe. */
int mj_pubkey_verify(const struct mj_pubkey *k, struct mj_span message, struct mj_span sig);

/* Replaces s by its twin in the lower half of the group when it is in the upper: both are good
 * signatures of the same message, but atproto takes only the lower one. Bytes that are no signature
 * stay as they are. */
void mj_sig_lower(enum mj_key_type type, uint8_t sig[MJ_SIG_LEN]);

/* Writes "z…" of a point, NUL-terminated; returns the length. */
size_t mj_key_multibase(enum mj_key_type type, const uint8_t point[MJ_POINT_LEN],
                        char out[MJ_MULTIBASE_MAX]);

/* The keypair with this secret. 0, or MJ_EKEY when it is 0 or not below the group order. */
int mj_keypair_from_secret(enum mj_key_type type, const uint8_t secret[32], struct mj_keypair *out);
/* Reads a private key: 64 hex digits (K-256), or multibase 'z' + base58btc of a two-byte codec and
 * the secret. 0; MJ_ESYNTAX for other text; MJ_EKEY for another codec or a secret that is none. */
int mj_keypair_parse(struct mj_span text, struct mj_keypair *out);
/* The keypair that belongs to a seed: the same seed gives the same keys on every machine. */
void mj_keypair_derive(enum mj_key_type type, struct mj_span seed, struct mj_keypair *out);
/* Signs SHA-256(message) with a low s. */
void mj_keypair_sign(const struct mj_keypair *k, struct mj_span message, uint8_t sig[MJ_SIG_LEN]);
/* The same in constant time, for which P-256 takes a random nonce. 0, or MJ_ENOMEM. Thread-safe. */
int mj_keypair_sign_safely(const struct mj_keypair *k, struct mj_span message,
                           uint8_t sig[MJ_SIG_LEN]);
