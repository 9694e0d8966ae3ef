/* Blocks of sealed segments, unpacked: a small cache that belongs to one view, the least recently
 * used one going first. Memory: MJ_BLOCKS blocks of 128 KiB, more only for single events that
 * large; nothing before the first sealed block is read. */
#pragma once

#include "journal/journal.h"

#define MJ_BLOCKS 64

struct mj_blocks;
struct mj_blocks *mj_blocks_new(void); /* never NULL */
void mj_blocks_free(struct mj_blocks *b);
/* The run's bytes, for mj_view_load(). */
int mj_blocks_load(struct mj_blocks *b, struct mj_run *r);
/* The segment's address may be another's from now on. */
void mj_blocks_forget(struct mj_blocks *b, const struct mj_segment *s);
/* Does the row's hash hold, and does it fit its file? */
bool mj_block_is_sound(const struct mj_segment *s, uint32_t row);
