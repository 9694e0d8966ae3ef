/* Labels: what somebody says of an account or a record, signed (spec/firehose.md §10).
 *
 *   { cid?, cts, exp?, neg?, src, uri, val, ver: 1 } ─ DRISL ─ SHA-256 ─ key #atproto_label ─▶ sig
 *
 * Fields that are not there are left out, `neg` also when it is false: so the reference labeler
 * writes them, and so they are verified. */
#pragma once

#include "atproto/keys.h"

#define MJ_LABEL_VAL_MAX 128 /* bytes */
#define MJ_LABEL_URI_MAX 8192

struct mj_label {
    struct mj_span src, uri, val, cts; /* texts; borrowed */
    struct mj_span cid, exp;           /* empty: none */
    bool neg;
};

/* NULL when it can be published, else what is wrong with it. */
const char *mj_label_check(const struct mj_label *l);
/* Appends the label as DRISL, in canonical order; with `sig`, unless that is empty. */
void mj_label_encode(const struct mj_label *l, struct mj_span sig, struct mj_buf *out);
/* Appends the label, signed. 0 or MJ_ENOMEM (out is unchanged). Thread-safe. */
int mj_label_sign(const struct mj_label *l, const struct mj_keypair *key, struct mj_buf *out);
/* Reads what mj_label_encode() wrote; spans are borrowed, *sig is empty when there is none. 0;
 * MJ_EFIELD; what mj_cbor_check() says. Fields that we do not know are passed over. */
int mj_label_parse(struct mj_span in, struct mj_label *out, struct mj_span *sig);
/* 0, or MJ_ESIG: not this key's. For a label that has `neg` false, both ways to write it count. */
int mj_label_verify(const struct mj_label *l, struct mj_span sig, const struct mj_pubkey *key);
