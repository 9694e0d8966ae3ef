/* Signatures of webhooks, as Standard Webhooks 1.0 has them, made and checked.
 *
 *   webhook-id          evt_…           the same for every attempt
 *   webhook-timestamp   1614265330      Unix seconds, of this attempt
 *   webhook-signature   v1,BASE64 v1a,BASE64 …      over  id "." timestamp "." body
 *
 *   whsec_BASE64   24 to 64 bytes shared by both ends: HMAC-SHA256, "v1"
 *   whsk_BASE64    a private Ed25519 key: signs "v1a"; the seed, or the seed and the public key
 *   whpk_BASE64    the public key to it: only checks
 *
 * Several signatures, one per key, let a receiver change keys while both are in use.
 *
 * A key is read once and owned by whoever parsed it; it never changes, so any thread may use it.
 * What it was made of is wiped when it is freed, and shows up in no message. */
#pragma once

#include "base/bytes.h"

#define MJ_SIGN_TOLERANCE_S 300 /* how far a timestamp may be off, either way */

struct mj_sign_key;

/* Reads a secret, blanks around it left out. 0; MJ_EKEY with a sentence appended to `error`. */
int mj_sign_key_parse(struct mj_span text, struct mj_sign_key **out, struct mj_buf *error);
/* NULL is fine. */
void mj_sign_key_free(struct mj_sign_key *key);
/* False for a whpk_ key. */
bool mj_sign_key_signs(const struct mj_sign_key *key);
/* Appends the whpk_ key to a whsk_ or whpk_ one; MJ_EINVAL for a whsec_ one, which has none. */
int mj_sign_key_public(const struct mj_sign_key *key, struct mj_buf *out);

/* What is signed; all borrowed. */
struct mj_signed {
    struct mj_span id;   /* without "." */
    int64_t timestamp_s; /* Unix seconds */
    struct mj_span body;
};

/* Appends the signatures of all keys, separated by blanks. 0; MJ_EINVAL when one of them cannot
 * sign, MJ_ENOMEM. */
int mj_sign(const struct mj_sign_key *const *keys, size_t n, const struct mj_signed *what,
            struct mj_buf *out);

/* The headers of a delivery as they came; {NULL, 0} for one that is absent. */
struct mj_sign_headers {
    struct mj_span id, timestamp, signature;
};
/* Does one of the signatures fit one of the keys, and the timestamp the clock? 0, and *which (may
 * be NULL) is the key's index. Else, with a sentence for people appended to `why`: MJ_ENOENT a
 * header is absent, MJ_ESYNTAX one is malformed, MJ_ELIMIT the timestamp is too far from now_s,
 * MJ_ESIG no signature fits. */
int mj_sign_verify(const struct mj_sign_key *const *keys, size_t n,
                   const struct mj_sign_headers *headers, struct mj_span body, int64_t now_s,
                   int64_t tolerance_s, size_t *which, struct mj_buf *why);

/* GitHub's way: X-Hub-Signature-256 is "sha256=" and the HMAC-SHA256 of the body in hex, with the
 * text of the secret, whatever it is, as the key. */
#define MJ_SIGN_GITHUB_LEN 71
/* 0, NUL-terminated; MJ_EINVAL for an empty secret. */
int mj_sign_github(struct mj_span secret, struct mj_span body, char out[MJ_SIGN_GITHUB_LEN + 1]);
/* 0, or MJ_ENOENT, MJ_ESYNTAX, MJ_ESIG as above. */
int mj_sign_github_verify(struct mj_span secret, struct mj_span header, struct mj_span body,
                          struct mj_buf *why);

/* A new secret, "whsec_" and 32 random bytes. 0, or MJ_EIO without randomness. */
int mj_sign_make_secret(struct mj_buf *out);
/* A new pair. 0 or MJ_EIO. */
int mj_sign_make_pair(struct mj_buf *private_key, struct mj_buf *public_key);
