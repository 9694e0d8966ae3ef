/* What happens in the simulated network: one frame after the other. */
#include "source/simulate.h"

#include <stdio.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "source/sim_world.h"

#define ACCOUNTS_DEFAULT 1000
#define ACCOUNTS_MAX     1000000
#define RECORDS_DEFAULT  400

/* Odds in 10,000 frames. */
#define HANDLE_CHANGES 40
#define BARE_IDENTITY  15
#define DEACTIVATIONS  20
#define TAKEDOWNS      4
#define DELETIONS      3
#define RETURNS        24 /* of somebody inactive, while there is one */
/* Odds in 10,000 commits. */
#define REFRESHES 10
#define BATCHES   100
#define DELETES   220
#define UPDATES   130

static struct mj_buf *new_frame(struct mj_simulate *s)
{
    struct mj_buf *b = &s->queue[s->queue_n++];
    b->len = 0;
    return b;
}

static struct mj_span now_text(const struct mj_simulate *s, char out[28])
{
    mj__sim_time(s->now_us, out);
    return mj_str(out);
}

static void say_identity(struct mj_simulate *s, uint32_t account, bool with_handle)
{
    const struct mj_sim_account *a = &s->accounts[account];
    char time[28];
    mj_frame_identity(++s->seq, mj_str(a->did), now_text(s, time),
                      with_handle ? mj_str(a->handle) : (struct mj_span){0}, new_frame(s));
}

static void say_account(struct mj_simulate *s, uint32_t account)
{
    static const char *const names[] = {[MJ_SIM_DEACTIVATED] = "deactivated",
                                        [MJ_SIM_TAKENDOWN] = "takendown",
                                        [MJ_SIM_DELETED] = "deleted"};
    const struct mj_sim_account *a = &s->accounts[account];
    char time[28];
    mj_frame_account(++s->seq, mj_str(a->did), now_text(s, time), a->status == MJ_SIM_ACTIVE,
                     mj_str(names[a->status]), new_frame(s));
}

static void say_commit(struct mj_simulate *s, uint32_t account)
{
    const struct mj_sim_account *a = &s->accounts[account];
    const struct mj_sim_repo *r = a->repo;
    char time[28];
    struct mj_commit_frame f = {
        .seq = ++s->seq,
        .repo = mj_str(a->did),
        .rev = mj_str(r->rev),
        .time = now_text(s, time),
        .since = r->since[0] ? mj_str(r->since) : (struct mj_span){0},
        .commit = r->commit,
        .prev_data = r->since[0] ? &r->prev_data : NULL,
        .blocks = mj_buf_span(&r->car),
        .ops = r->ops,
        .op_count = r->op_count,
    };
    mj_frame_commit(&f, new_frame(s));
}

static void say_sync(struct mj_simulate *s, uint32_t account)
{
    const struct mj_sim_account *a = &s->accounts[account];
    char time[28];
    MJ_AUTO_BUF car = {0};
    mj_sim_repo_sync_car(a->repo, &car);
    mj_frame_sync(++s->seq, mj_str(a->did), mj_str(a->repo->rev), now_text(s, time),
                  mj_buf_span(&car), new_frame(s));
}

static void commit(struct mj_simulate *s, uint32_t account)
{
    struct mj_sim_account *a = &s->accounts[account];
    mj_sim_repo_commit(a->repo, mj_str(a->did), mj__sim_key(s, account), s->now_us);
    say_commit(s, account);
}

/* As a PDS tells it: identity, account, an empty commit without a predecessor, sync. */
static void sign_up(struct mj_simulate *s, uint32_t slot)
{
    uint32_t account = s->slots[slot] = mj__sim_new_account(s);
    mj_sim_repo_begin(mj__sim_fresh_repo(s, account));
    say_identity(s, account, true);
    say_account(s, account);
    commit(s, account);
    say_sync(s, account);
}

static void delete_account(struct mj_simulate *s, uint32_t slot)
{
    struct mj_sim_account *a = &s->accounts[s->slots[slot]];
    a->status = MJ_SIM_DELETED;
    mj_sim_repo_free(a->repo);
    a->repo = NULL;
    s->vacant = slot + 1;
    say_account(s, s->slots[slot]);
}

/* Some write much more than others. */
static uint32_t pick_slot(struct mj_simulate *s)
{
    return mj_rng_below(&s->rng, 1 + mj_rng_below(&s->rng, s->slot_count));
}

/* The first slot from a random one on that is (in)active; the caller knows that there is one. */
static uint32_t find_slot(struct mj_simulate *s, bool active)
{
    uint32_t slot = pick_slot(s);
    while ((s->accounts[s->slots[slot]].status == MJ_SIM_ACTIVE) != active)
        slot = (slot + 1) % s->slot_count;
    return slot;
}

static void create_one(struct mj_simulate *s, uint32_t account, enum mj_sim_collection c)
{
    struct mj_sim_repo *r = mj__sim_repo(s, account);
    char rkey[14];
    mj_sim_repo_tid(r, s->now_us, rkey);
    mj__sim_make_record(s, &s->rng, account, c, s->now_us, rkey);
    mj_sim_repo_create(r, c, rkey, mj_buf_span(&s->record));
}

static enum mj_sim_collection pick_collection(struct mj_simulate *s)
{
    static const uint32_t weights[] = {
        /* of 1,000 */
        [MJ_SIM_LIKE] = 700, [MJ_SIM_POST] = 120,   [MJ_SIM_REPOST] = 100, [MJ_SIM_FOLLOW] = 60,
        [MJ_SIM_BLOCK] = 8,  [MJ_SIM_LISTITEM] = 5, [MJ_SIM_READING] = 7};
    uint32_t at = mj_rng_below(&s->rng, 1000);
    int c = 0;
    while (at >= weights[c])
        at -= weights[c++];
    return (enum mj_sim_collection)c;
}

static void delete_one(struct mj_simulate *s, struct mj_sim_repo *r)
{
    size_t at = mj_rng_below(&s->rng, (uint32_t)r->n);
    if (r->records[at].collection != MJ_SIM_PROFILE)
        mj_sim_repo_delete(r, at);
}

/* Profiles are what people edit; now and then a post, or a reading that is corrected. */
static void update_one(struct mj_simulate *s, uint32_t account)
{
    struct mj_sim_repo *r = mj__sim_repo(s, account);
    ptrdiff_t at = mj_sim_repo_find(r, MJ_SIM_PROFILE, "self");
    if (r->n && mj_rng_chance(&s->rng, 3000))
        at = (ptrdiff_t)mj_rng_below(&s->rng, (uint32_t)r->n);
    if (at < 0) {
        create_one(s, account, MJ_SIM_PROFILE);
        return;
    }
    char rkey[14];
    snprintf(rkey, sizeof rkey, "%.13s", r->records[at].rkey);
    mj__sim_make_record(s, &s->rng, account, r->records[at].collection, s->now_us, rkey);
    mj_sim_repo_update(r, (size_t)at, mj_buf_span(&s->record));
}

/* A thread with its gate, a round of follows, or a clean-up: several operations at once. */
static void batch(struct mj_simulate *s, uint32_t account)
{
    struct mj_sim_repo *r = mj__sim_repo(s, account);
    uint32_t n = 2 + mj_rng_below(&s->rng, 9);
    switch (mj_rng_below(&s->rng, 3)) {
    case 0: {
        char rkey[14], same[14];
        mj_sim_repo_tid(r, s->now_us, rkey);
        memcpy(same, rkey, sizeof same);
        mj__sim_make_record(s, &s->rng, account, MJ_SIM_POST, s->now_us, rkey);
        mj_sim_repo_create(r, MJ_SIM_POST, rkey, mj_buf_span(&s->record));
        mj__sim_make_record(s, &s->rng, account, MJ_SIM_THREADGATE, s->now_us, same);
        mj_sim_repo_create(r, MJ_SIM_THREADGATE, same, mj_buf_span(&s->record));
        break;
    }
    case 1:
        for (uint32_t i = 0; i < n; i++)
            create_one(s, account, MJ_SIM_FOLLOW);
        break;
    default:
        for (uint32_t i = 0; i < n / 2 && r->n; i++)
            delete_one(s, r);
        create_one(s, account, MJ_SIM_POST);
        update_one(s, account);
        break;
    }
}

static void write_something(struct mj_simulate *s)
{
    uint32_t slot = find_slot(s, true);
    uint32_t account = s->slots[slot];
    struct mj_sim_repo *r = mj__sim_repo(s, account);
    if (r->n >= s->records_max) {
        delete_account(s, slot);
        return;
    }
    mj_sim_repo_begin(r);
    uint32_t dice = mj_rng_below(&s->rng, 10000);
    if (dice < REFRESHES) { /* a new revision and signature, no operations */
        commit(s, account);
        return;
    }
    if ((dice -= REFRESHES) < BATCHES)
        batch(s, account);
    else if ((dice -= BATCHES) < DELETES && r->n)
        delete_one(s, r);
    else if ((dice -= DELETES) < UPDATES)
        update_one(s, account);
    if (!r->op_count)
        create_one(s, account, pick_collection(s));
    commit(s, account);
}

static void leave(struct mj_simulate *s, enum mj_sim_status status)
{
    if ((s->inactive + 1) * 4 > s->slot_count) { /* three of four stay, so somebody always writes */
        write_something(s);
        return;
    }
    uint32_t slot = find_slot(s, true);
    s->accounts[s->slots[slot]].status = status;
    s->inactive++;
    say_account(s, s->slots[slot]);
}

static void come_back(struct mj_simulate *s)
{
    uint32_t account = s->slots[find_slot(s, false)];
    struct mj_sim_account *a = &s->accounts[account];
    bool by_choice = a->status == MJ_SIM_DEACTIVATED;
    mj__sim_repo(s, account);
    a->status = MJ_SIM_ACTIVE;
    s->inactive--;
    say_account(s, account);
    if (by_choice) {
        say_identity(s, account, true);
        say_sync(s, account);
    }
}

static void change_handle(struct mj_simulate *s)
{
    uint32_t account = s->slots[pick_slot(s)];
    struct mj_sim_account *a = &s->accounts[account];
    snprintf(a->handle, sizeof a->handle, "%s%u-%u.sim.test", mj_sim_name(&s->rng), account,
             mj_rng_below(&s->rng, 1000));
    say_identity(s, account, true);
}

/* Fills the queue with at least one frame. */
static void happen(struct mj_simulate *s)
{
    if (s->vacant) {
        uint32_t slot = s->vacant - 1;
        s->vacant = 0;
        sign_up(s, slot);
        return;
    }
    uint32_t dice = mj_rng_below(&s->rng, 10000);
    if (dice < HANDLE_CHANGES)
        change_handle(s);
    else if ((dice -= HANDLE_CHANGES) < BARE_IDENTITY)
        say_identity(s, s->slots[pick_slot(s)], false);
    else if ((dice -= BARE_IDENTITY) < DEACTIVATIONS)
        leave(s, MJ_SIM_DEACTIVATED);
    else if ((dice -= DEACTIVATIONS) < TAKEDOWNS)
        leave(s, MJ_SIM_TAKENDOWN);
    else if ((dice -= TAKEDOWNS) < DELETIONS)
        delete_account(s, find_slot(s, true));
    else if ((dice -= DELETIONS) < RETURNS && s->inactive)
        come_back(s);
    else
        write_something(s);
}

int64_t mj_simulate_next(struct mj_simulate *s, struct mj_span *frame)
{
    if (s->queue_at == s->queue_n) {
        if (s->clock_us)
            s->now_us = s->clock_us += s->step_us;
        else
            s->now_us = mj_now_us();
        s->queue_at = s->queue_n = 0;
        happen(s);
    }
    *frame = mj_buf_span(&s->queue[s->queue_at++]);
    return s->seq - (s->queue_n - s->queue_at);
}

int mj_simulate_new(const struct mj_simulate_cfg *cfg, struct mj_simulate **out)
{
    uint32_t accounts = cfg->accounts ? cfg->accounts : ACCOUNTS_DEFAULT;
    if (accounts > ACCOUNTS_MAX || cfg->start_us < 0 || cfg->step_us < 0)
        return MJ_EINVAL;
    struct mj_simulate *s = mj_calloc(1, sizeof *s);
    s->seed = cfg->seed;
    mj_rng_seed(&s->rng, cfg->seed);
    s->records_max = cfg->records_max ? cfg->records_max : RECORDS_DEFAULT;
    s->clock_us = cfg->start_us;
    s->step_us = cfg->step_us;
    s->now_us = cfg->start_us ? cfg->start_us : mj_now_us();
    mj_simulate_set_pds(s, cfg->pds_url ? cfg->pds_url : "https://pds.example.com");
    s->posts = mj_calloc(MJ_SIM_POSTS, sizeof *s->posts);
    s->slots = mj_calloc(accounts, sizeof *s->slots);
    s->slot_count = accounts;
    for (uint32_t i = 0; i < accounts; i++)
        s->slots[i] = mj__sim_new_account(s);
    mj__sim_find_landmarks(s, s->now_us);
    for (uint32_t i = 0; i < accounts && i < 32; i++)
        mj__sim_repo(s, i); /* so that there is something to like and to answer */
    *out = s;
    return 0;
}

void mj_simulate_free(struct mj_simulate *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->n; i++)
        mj_sim_repo_free(s->accounts[i].repo);
    for (int i = 0; i < MJ_SIM_QUEUE; i++)
        mj_buf_deinit(&s->queue[i]);
    free(s->accounts);
    free(s->slots);
    free(s->by_did);
    free(s->posts);
    free(s->pds_url);
    mj_buf_deinit(&s->text.text);
    mj_buf_deinit(&s->record);
    free(s);
}

void mj_simulate_set_pds(struct mj_simulate *s, const char *pds_url)
{
    free(s->pds_url);
    s->pds_url = mj_strdup(pds_url);
}
