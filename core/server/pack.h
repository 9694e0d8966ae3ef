/* Events as zstd frames behind their WebSocket heads, made once however many subscribers read them,
 * live or catching up.
 *
 *   block: 256 seqs      [head|frame 3][head|frame 4][head|frame 9] …      chunks that never move
 *   at[256], len[256]    filled as somebody wants them, in the order in which they are wanted
 *
 * A subscriber without a filter wants all of them in order, so what it gets lies in runs. Blocks
 * that nobody has asked for in the longest time make room for others. A block that grows beyond
 * any reason keeps no more: what is too much is made again each time it is wanted.
 *
 * One complete frame per event, level 1, with checksum, content size and dictionary id, as
 * Jetstream sends them. The dictionary is borrowed only while it is opened. On the server's thread.
 */
#pragma once

#include "base/bytes.h"

#define MJ_PACK_WINDOW 256 /* seqs of a block, a power of two */

struct mj_packer;

/* 0, or MJ_EINVAL when the bytes are no zstd dictionary. */
int mj_packer_new(struct mj_span dictionary, struct mj_packer **out);
void mj_packer_free(struct mj_packer *p);
/* The frame of an event. Borrowed until an event of another block is asked for; when *fleeting is
 * set, only until the next call. 0 or MJ_ENOMEM. */
int mj_packer_event(struct mj_packer *p, uint64_t seq, struct mj_span json, struct mj_span *frame,
                    bool *fleeting);
/* The frame of something that is no event. Borrowed until the next call. 0 or MJ_ENOMEM. */
int mj_packer_once(struct mj_packer *p, struct mj_span json, struct mj_span *frame);
