/* The simulator's own random numbers: xoshiro256** (Blackman and Vigna), its state filled by
 * splitmix64, so that a seed means the same network on every machine. Not for secrets. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct mj_rng {
    uint64_t s[4];
};

static inline void mj_rng_seed(struct mj_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        r->s[i] = z ^ z >> 31;
    }
}

static inline uint64_t mj_rng_u64(struct mj_rng *r)
{
    uint64_t *s = r->s, x = s[1] * 5, out = (x << 7 | x >> 57) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return out;
}

/* 0…n−1; n > 0. The bias of the multiplication is below 2^-32 and of no concern here. */
static inline uint32_t mj_rng_below(struct mj_rng *r, uint32_t n)
{
    return (uint32_t)((mj_rng_u64(r) >> 32) * n >> 32);
}

/* True n times in 10,000. */
static inline bool mj_rng_chance(struct mj_rng *r, uint32_t n)
{
    return mj_rng_below(r, 10000) < n;
}
