/* Who the people of the simulated network are, and what their repositories started with. */
#include <stdio.h>

#include "atproto/syntax.h"
#include "base/hash.h"
#include "source/sim_world.h"

#define DAY_US INT64_C(86400000000)

void mj__sim_time(int64_t us, char out[28])
{
    mj_datetime_make(us, out);
    memcpy(out + 23, "Z", 2);
}

/* A stream of random numbers that belongs to one account and one purpose. */
static struct mj_rng private_rng(const struct mj_simulate *s, uint32_t account, uint32_t purpose)
{
    struct mj_rng r;
    mj_rng_seed(&r, s->seed ^ ((uint64_t)account << 8 | purpose) * UINT64_C(0xd1342543de82ef95));
    return r;
}

void mj__sim_find_landmarks(struct mj_simulate *s, int64_t now_us)
{
    for (int c = 0; c <= MJ_SIM_FOLLOW; c++)
        for (int h = MJ_SIM_TALLEST; h > 0; h--) {
            if (h == MJ_SIM_TALLEST && c != MJ_SIM_LIKE)
                continue; /* a tree has few keys at the top */
            /* Windows of time, the higher the older; alternating, so that subtrees lie between. */
            int64_t at = now_us - (h + 1) * 60 * DAY_US;
            for (unsigned i = 0; i < MJ_SIM_LANDMARKS;) {
                char path[64];
                at += 10 * INT64_C(1000000) + 7919;
                mj_tid_make(at, 11, s->landmarks[c][h][i].rkey);
                int n = snprintf(path, sizeof path, "%s/%s", mj_sim_nsid[c],
                                 s->landmarks[c][h][i].rkey);
                if ((int)mj_mst_height(mj_span(path, (size_t)n)) == h - (int)(i & 1))
                    i++;
            }
        }
}

static void index_did(struct mj_simulate *s, uint32_t account)
{
    uint32_t mask = s->by_did_size - 1;
    uint32_t at = (uint32_t)mj_hash(mj_str(s->accounts[account].did)) & mask;
    while (s->by_did[at])
        at = (at + 1) & mask;
    s->by_did[at] = account + 1;
}

static void grow(struct mj_simulate *s)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1024;
        s->accounts = mj_realloc(s->accounts, s->cap * sizeof *s->accounts);
    }
    if (s->n * 2 < s->by_did_size)
        return;
    s->by_did_size = s->by_did_size ? s->by_did_size * 2 : 4096;
    free(s->by_did);
    s->by_did = mj_calloc(s->by_did_size, sizeof *s->by_did);
    for (uint32_t i = 0; i < s->n; i++)
        index_did(s, i);
}

uint32_t mj__sim_new_account(struct mj_simulate *s)
{
    static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567";
    grow(s);
    uint32_t i = s->n++;
    struct mj_sim_account *a = &s->accounts[i];
    memset(a, 0, sizeof *a);
    struct mj_rng rng = private_rng(s, i, 'd');
    memcpy(a->did, "did:plc:", 8);
    for (int k = 8; k < MJ_SIM_DID_LEN; k++)
        a->did[k] = base32[mj_rng_below(&rng, 32)];
    snprintf(a->handle, sizeof a->handle, "%s%u.sim.test", mj_sim_name(&rng), i);
    index_did(s, i);
    return i;
}

int64_t mj__sim_find_did(const struct mj_simulate *s, struct mj_span did)
{
    uint32_t mask = s->by_did_size - 1;
    for (uint32_t at = (uint32_t)mj_hash(did) & mask; s->by_did[at]; at = (at + 1) & mask)
        if (mj_span_is(did, s->accounts[s->by_did[at] - 1].did))
            return s->by_did[at] - 1;
    return -1;
}

const struct mj_keypair *mj__sim_key(struct mj_simulate *s, uint32_t account)
{
    struct mj_sim_account *a = &s->accounts[account];
    if (!a->has_key) {
        struct mj_rng rng = private_rng(s, account, 'k');
        uint64_t seed[2] = {mj_rng_u64(&rng), mj_rng_u64(&rng)};
        enum mj_key_type type = mj_rng_chance(&rng, 500) ? MJ_KEY_P256 : MJ_KEY_K256;
        mj_keypair_derive(type, mj_span(seed, sizeof seed), &a->key);
        a->has_key = true;
    }
    return &a->key;
}

static void remember_post(struct mj_simulate *s, uint32_t author, const char *rkey,
                          const struct mj_sim_ref *root)
{
    struct mj_sim_known_post *p = &s->posts[s->post_next];
    p->author = author;
    snprintf(p->self.uri, sizeof p->self.uri, "at://%s/%s/%s", s->accounts[author].did,
             mj_sim_nsid[MJ_SIM_POST], rkey);
    mj_cid_of(mj_buf_span(&s->record), &p->self.cid);
    p->root = root ? *root : p->self;
    s->post_next = (s->post_next + 1) % MJ_SIM_POSTS;
    if (s->post_count < MJ_SIM_POSTS)
        s->post_count++;
}

/* Recent posts are more popular than old ones. NULL when nobody has posted yet. */
static const struct mj_sim_known_post *pick_post(const struct mj_simulate *s, struct mj_rng *rng)
{
    if (!s->post_count)
        return NULL;
    uint32_t back = mj_rng_below(rng, 1 + mj_rng_below(rng, s->post_count));
    return &s->posts[(s->post_next + MJ_SIM_POSTS - 1 - back) % MJ_SIM_POSTS];
}

static const struct mj_sim_account *pick_person(const struct mj_simulate *s, struct mj_rng *rng)
{
    return &s->accounts[s->slots[mj_rng_below(rng, s->slot_count)]];
}

static void make_post(struct mj_simulate *s, struct mj_rng *rng, uint32_t account,
                      struct mj_span created, const char *rkey)
{
    const struct mj_sim_account *friend = pick_person(s, rng);
    const struct mj_sim_known_post *other = pick_post(s, rng);
    struct mj_sim_post post = {.text = &s->text};
    uint32_t dice = mj_rng_below(rng, 100);
    mj_sim_text(rng, mj_str(friend->handle), mj_str(friend->did), &s->text);
    struct mj_sim_ref root, parent;
    if (other && dice < 35) {
        root = other->root;
        parent = other->self;
        post.root = &root;
        post.parent = &parent;
    } else if (other && dice < 39) {
        parent = other->self;
        post.quote = &parent;
    }
    mj_sim_put_post(rng, &post, created, &s->record);
    remember_post(s, account, rkey, post.root);
}

void mj__sim_make_record(struct mj_simulate *s, struct mj_rng *rng, uint32_t account,
                         enum mj_sim_collection c, int64_t at_us, char rkey[14])
{
    char time[28], uri[128];
    mj__sim_time(at_us - mj_rng_below(rng, 400000), time); /* clients write it before they send */
    struct mj_span created = mj_str(time);
    const struct mj_sim_known_post *post = pick_post(s, rng);
    struct mj_span person = mj_str(pick_person(s, rng)->did);
    s->record.len = 0;
    switch (c) {
    case MJ_SIM_LIKE:
        mj_sim_put_like(rng, &post->self, created, &s->record);
        break;
    case MJ_SIM_REPOST:
        mj_sim_put_repost(&post->self, created, &s->record);
        break;
    case MJ_SIM_FOLLOW:
    case MJ_SIM_BLOCK:
        mj_sim_put_graph(c, person, created, &s->record);
        break;
    case MJ_SIM_LISTITEM:
        snprintf(uri, sizeof uri, "at://%s/app.bsky.graph.list/%s", s->accounts[account].did, rkey);
        mj_sim_put_listitem(mj_str(uri), person, created, &s->record);
        break;
    case MJ_SIM_THREADGATE:
        snprintf(uri, sizeof uri, "at://%s/%s/%s", s->accounts[account].did,
                 mj_sim_nsid[MJ_SIM_POST], rkey);
        mj_sim_put_threadgate(rng, uri, created, &s->record);
        break;
    case MJ_SIM_PROFILE:
        memcpy(rkey, "self", 5);
        mj_sim_put_profile(rng, mj_str(s->accounts[account].handle), created, &s->record);
        break;
    case MJ_SIM_READING:
        mj_sim_put_reading(rng, created, &s->record);
        break;
    case MJ_SIM_POST:
    case MJ_SIM_COLLECTION_COUNT:
        make_post(s, rng, account, created, rkey);
        break;
    }
}

static void seed_record(struct mj_simulate *s, struct mj_rng *rng, uint32_t account,
                        enum mj_sim_collection c, const char *rkey, int64_t at_us)
{
    char key[14];
    memcpy(key, rkey, sizeof key);
    mj__sim_make_record(s, rng, account, c, at_us, key);
    mj_sim_repo_seed(s->accounts[account].repo, c, key, mj_buf_span(&s->record));
}

/* Landmarks, the higher the older, for a tree of the given height; then ordinary records. */
static void prehistory(struct mj_simulate *s, struct mj_rng *rng, uint32_t account)
{
    static const enum mj_sim_collection usual[] = {MJ_SIM_LIKE,   MJ_SIM_LIKE,   MJ_SIM_LIKE,
                                                   MJ_SIM_REPOST, MJ_SIM_FOLLOW, MJ_SIM_POST};
    char rkey[14];
    int64_t joined = s->now_us - 500 * DAY_US;
    mj_tid_make(joined, 11, rkey);
    seed_record(s, rng, account, MJ_SIM_PROFILE, rkey, joined);
    for (int i = 0; i < 2; i++) { /* so that there is always something to like */
        mj_tid_make(joined + (1 + i) * DAY_US, 11, rkey);
        seed_record(s, rng, account, MJ_SIM_POST, rkey, joined + (1 + i) * DAY_US);
    }
    int height = 4 + (int)mj_rng_below(rng, 3) + (int)mj_rng_below(rng, 3);
    for (int h = height; h > 0; h--)
        for (int c = 0; c <= MJ_SIM_FOLLOW; c++) {
            if (h == height && c != MJ_SIM_LIKE)
                continue;
            for (int i = 0; i < MJ_SIM_LANDMARKS; i++) {
                const char *key = s->landmarks[c][h][i].rkey;
                if (mj_rng_chance(rng, c == MJ_SIM_LIKE ? 8500 : 5500))
                    seed_record(s, rng, account, (enum mj_sim_collection)c, key,
                                mj_tid_time_us(mj_str(key)));
            }
        }
    uint32_t recent = 10 + mj_rng_below(rng, 1 + mj_rng_below(rng, 60));
    for (uint32_t i = 0; i < recent; i++) {
        int64_t at = s->now_us - DAY_US / 24 - (int64_t)(mj_rng_u64(rng) % (uint64_t)(40 * DAY_US));
        mj_tid_make(at, 11, rkey);
        seed_record(s, rng, account, usual[mj_rng_below(rng, MJ_COUNT(usual))], rkey, at);
    }
}

struct mj_sim_repo *mj__sim_fresh_repo(struct mj_simulate *s, uint32_t account)
{
    mj_sim_repo_free(s->accounts[account].repo);
    return s->accounts[account].repo = mj_sim_repo_new();
}

struct mj_sim_repo *mj__sim_repo(struct mj_simulate *s, uint32_t account)
{
    struct mj_sim_account *a = &s->accounts[account];
    if (!a->repo) {
        struct mj_rng rng = private_rng(s, account, 'r');
        mj__sim_fresh_repo(s, account);
        prehistory(s, &rng, account);
        mj_sim_repo_found(a->repo, mj_str(a->did), mj__sim_key(s, account),
                          s->now_us - (int64_t)mj_rng_below(&rng, 1000000000) - 1000000);
    }
    return a->repo;
}
