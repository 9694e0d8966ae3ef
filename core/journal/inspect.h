/* Looking at a journal from outside, also while a router writes to it: what is there, and whether
 * all of it is what it says. Nothing on the disk is touched. */
#pragma once

#include "journal/journal.h"

/* Opens DIR/journal files for looking. What is damaged so that a router would refuse it is left
 * out, each with a line in `problems`; their number in *count. 0, or an error with a line in
 * `problems` when there is nothing to look at. Closed with mj_journal_close(). */
int mj_inspect_open(const char *dir, struct mj_journal **out, struct mj_buf *problems,
                    size_t *count);

struct mj_segment_info {
    uint64_t first_seq, end_seq; /* seqs [first, end) */
    int64_t first_us, last_us;
    int64_t plain_bytes;  /* as they are sent */
    int64_t stored_bytes; /* on the disk, index included */
    bool sealed;
};
size_t mj_inspect_count(const struct mj_journal *j);
void mj_inspect_segment(const struct mj_journal *j, size_t i, struct mj_segment_info *out);
/* Number of names, and the i-th, of sources (with where they got to), streams, collections. */
size_t mj_inspect_sources(const struct mj_journal *j);
struct mj_span mj_inspect_source(const struct mj_journal *j, size_t i, int64_t *cursor);
size_t mj_inspect_streams(const struct mj_journal *j);
struct mj_span mj_inspect_stream(const struct mj_journal *j, size_t i);
size_t mj_inspect_collections(const struct mj_journal *j);

/* Reads all of a segment: hashes, that entries and frames fit each other, that times rise. The
 * number of problems, each with a line in `problems` that names the seqs they cost. `progress` (or
 * NULL) hears of plain bytes as they are done. */
size_t mj_verify_segment(struct mj_journal *j, size_t i, struct mj_buf *problems,
                         void (*progress)(void *ctx, int64_t bytes), void *ctx);
