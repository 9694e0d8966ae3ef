/* The people of the simulated network, shared by simulate.c (what happens), sim_account.c (who
 * they are and what they started with) and sim_serve.c (documents about them). */
#pragma once

#include "atproto/repo.h"
#include "source/sim_repo.h"
#include "source/sim_rng.h"
#include "source/simulate.h"

#define MJ_SIM_DID_LEN   32 /* did:plc: and 24 characters */
#define MJ_SIM_POSTS     4096
#define MJ_SIM_QUEUE     4
#define MJ_SIM_TALLEST   8 /* greatest height searched for */
#define MJ_SIM_LANDMARKS 8 /* per height and collection */

enum mj_sim_status { MJ_SIM_ACTIVE, MJ_SIM_DEACTIVATED, MJ_SIM_TAKENDOWN, MJ_SIM_DELETED };

struct mj_sim_account {
    char did[MJ_SIM_DID_LEN + 1];
    char handle[48];
    enum mj_sim_status status;
    bool has_key;
    struct mj_keypair key;    /* when has_key */
    struct mj_sim_repo *repo; /* owned; NULL until needed, and after deletion */
};

/* A post that others can like, repost, quote and answer. */
struct mj_sim_known_post {
    uint32_t author;
    struct mj_sim_ref self, root; /* root = self for a post that is no reply */
};

/* The last part of a key of great height. */
struct mj_sim_landmark {
    char rkey[14];
};

struct mj_simulate {
    struct mj_rng rng;
    uint64_t seed;
    uint32_t records_max;
    int64_t clock_us, step_us; /* clock_us 0 = the real clock */
    int64_t now_us;            /* of the frame being made */
    int64_t seq;
    char *pds_url; /* owned */

    struct mj_sim_account *accounts; /* owned; everybody who ever was */
    uint32_t n, cap;
    uint32_t *slots; /* owned; who is here now */
    uint32_t slot_count;
    uint32_t *by_did; /* owned; open hash table of account + 1 */
    uint32_t by_did_size;
    uint32_t vacant;   /* slot + 1 of somebody whose deletion was just told */
    uint32_t inactive; /* deactivated and taken down, among slots */

    struct mj_sim_known_post *posts; /* owned ring */
    uint32_t post_count, post_next;
    /* [collection][height]: keys of that height and of the one below, oldest first */
    struct mj_sim_landmark landmarks[MJ_SIM_FOLLOW + 1][MJ_SIM_TALLEST + 1][MJ_SIM_LANDMARKS];

    struct mj_buf queue[MJ_SIM_QUEUE]; /* frames made together */
    uint32_t queue_at, queue_n;
    struct mj_sim_text text;
    struct mj_buf record;
};

/* Searches the landmarks. Uses the clock only. */
void mj__sim_find_landmarks(struct mj_simulate *s, int64_t now_us);
/* Adds somebody; returns the index. */
uint32_t mj__sim_new_account(struct mj_simulate *s);
/* Index of an account, or −1. */
int64_t mj__sim_find_did(const struct mj_simulate *s, struct mj_span did);
const struct mj_keypair *mj__sim_key(struct mj_simulate *s, uint32_t account);
/* The repository, with a prehistory when it is asked for the first time. */
struct mj_sim_repo *mj__sim_repo(struct mj_simulate *s, uint32_t account);
/* An empty repository for somebody who has just signed up. */
struct mj_sim_repo *mj__sim_fresh_repo(struct mj_simulate *s, uint32_t account);
/* Makes a record of the collection by the account into s->record. `rkey` is a TID of the record's
 * time, and is replaced where the collection wants another key. */
void mj__sim_make_record(struct mj_simulate *s, struct mj_rng *rng, uint32_t account,
                         enum mj_sim_collection c, int64_t at_us, char rkey[14]);
/* "2026-07-04T14:38:08.123Z" and a NUL: milliseconds, as servers write it. */
void mj__sim_time(int64_t us, char out[28]);
