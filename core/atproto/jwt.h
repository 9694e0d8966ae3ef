/* Service auth: the JSON Web Tokens with which one atproto service tells another for which account
 * it asks (spec/firehose.md §11).
 *
 *   token    HEADER.CLAIMS.SIGNATURE, each base64url
 *   iss      the account's DID, perhaps with a "#service" behind it; its key signs
 *   aud      the DID of whoever is asked, perhaps with a "#service" behind it
 *   lxm      the method it is good for
 *
 * To parse is not to believe: claims count once mj_jwt_check() has compared them with what is asked
 * for and mj_jwt_verify() has found the account's key. Nothing here allocates beyond a call. */
#pragma once

#include "atproto/keys.h"

#define MJ_JWT_MAX     8192 /* bytes of a token */
#define MJ_JWT_SKEW_S  30   /* what clocks may differ */
#define MJ_JWT_DID_MAX 2048
#define MJ_JWT_LXM_MAX 317 /* of an NSID */

struct mj_jwt {
    struct mj_span signed_part;   /* borrowed from the token */
    enum mj_key_type type;        /* what `alg` says: ES256K or ES256 */
    char iss[MJ_JWT_DID_MAX + 1]; /* a DID, without "#service" */
    char aud[MJ_JWT_DID_MAX + 66];
    char lxm[MJ_JWT_LXM_MAX + 1]; /* "" when there is none */
    int64_t exp, nbf, iat; /* Unix seconds; 0 when there is none, but `exp` is always there */
    uint8_t sig[MJ_SIG_LEN];
};

/* What is wrong, as an XRPC error; static texts. */
struct mj_jwt_fault {
    const char *name, *message;
};

/* Reads a token. 0; MJ_ESYNTAX: it is none, or lacks a claim or one is of the wrong kind;
 * MJ_ELIMIT: too long; MJ_EKEY: signed in another way; MJ_ETYPE: a token of another kind; MJ_EDID:
 * `iss` is none. */
int mj_jwt_parse(struct mj_span token, struct mj_jwt *out);
/* What mj_jwt_parse() returned, in words for whoever sent it. */
struct mj_jwt_fault mj_jwt_parse_fault(int err);
/* Is it for us, now? `did` is ours and `service` the fragment that may stand behind it
 * ("#bsky_fg"); `lxm` is the method asked for; now_s is Unix time. True, or false with *fault. */
bool mj_jwt_check(const struct mj_jwt *j, const char *did, const char *service, const char *lxm,
                  int64_t now_s, struct mj_jwt_fault *fault);
/* 0, or MJ_ESIG: not this key's. Either of the two signatures that the same numbers give will do:
 * what a JWT library makes need not have its s in the lower half. */
int mj_jwt_verify(const struct mj_jwt *j, const struct mj_pubkey *key);
