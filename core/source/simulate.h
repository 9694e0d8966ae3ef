/* A simulated atproto network: accounts with keys, handles and real repositories, and the firehose
 * frames that what they do gives rise to. Every frame is what a relay would send: signed commits,
 * trees and proofs that hold, prevData and revisions that chain (spec/firehose.md §§2-3, 7).
 *
 *   people   N at a time. Who deletes the account, or has written `records_max` records, leaves
 *            and somebody new signs up, so a long run needs no more memory than a short one but
 *            for some 200 bytes per account that ever was
 *   mix      as measured on the live network (§13): 70 % likes, 12 % posts, 10 % reposts, 6 %
 *            follows; 96 % creates; one frame in seventy is about an account or its identity
 *   spine    an account starts with some tens of records, but among them are keys of great height,
 *            searched for once and shared by everybody: they give a small tree the depth, and a
 *            commit the proof, of a repository with thousands of records
 *
 * The same configuration gives the same network. With a start time the clock is simulated too, and
 * then the frames are the same to the last byte; without one a frame's time is now.
 *
 * One thread at a time: whoever serves documents from another thread holds a lock. */
#pragma once

#include "base/bytes.h"

struct mj_simulate;

struct mj_simulate_cfg {
    uint64_t seed;
    uint32_t accounts;    /* 1…1,000,000; 0 = 1,000 */
    uint32_t records_max; /* 0 = 400 */
    int64_t start_us;     /* Unix µs of the first frame; 0 = the real clock */
    int64_t step_us;      /* simulated time between frames */
    const char *pds_url;  /* of the DID documents, e.g. "http://127.0.0.1:2583"; NULL = the
                             reserved name "https://pds.example.com"; copied */
};

/* MJ_EINVAL for an account count out of range. */
int mj_simulate_new(const struct mj_simulate_cfg *cfg, struct mj_simulate **out);
void mj_simulate_free(struct mj_simulate *s);
/* For a server that knows its own address only when it listens. */
void mj_simulate_set_pds(struct mj_simulate *s, const char *pds_url);
/* Makes the next frame: header and payload, borrowed until the next call. Its seq is returned, and
 * rises by one from 1. */
int64_t mj_simulate_next(struct mj_simulate *s, struct mj_span *frame);

/* The DID document as a PLC directory serves it, JSON. 0, or MJ_ENOENT. */
int mj_simulate_did_document(struct mj_simulate *s, struct mj_span did, struct mj_buf *out);
/* Appends the DID of a handle. 0, or MJ_ENOENT. */
int mj_simulate_resolve_handle(struct mj_simulate *s, struct mj_span handle, struct mj_buf *out);
/* Appends the whole repository as a CAR. 0; MJ_ENOENT for an unknown or deleted account;
 * MJ_ECLOSED with the account's status in *status (static text) when it is not active. */
int mj_simulate_repo(struct mj_simulate *s, struct mj_span did, struct mj_buf *out,
                     const char **status);
/* Answers a GET as PLC directory and PDS: /<did>, com.atproto.identity.resolveHandle,
 * com.atproto.sync.getRepo. Fits mj_relay_get_fn with s as ctx. */
int mj_simulate_get(void *s, struct mj_span path, struct mj_span query, struct mj_buf *body,
                    const char **type);
