/* The data directory: what one router keeps between runs. A lock keeps two routers from sharing it.
 *
 *   DATA/lock      held while the process lives
 *   DATA/journal   events, and how far each source was read: core/journal */
#pragma once

#include "base/bytes.h"

struct mj_data_dir {
    char *path; /* owned; NULL when nothing is kept */
    int lock;   /* owned descriptor, -1 for none */
};

/* Makes the directory if needed and locks it. path NULL or "": nothing is kept. 0, or MJ_EIO with a
 * sentence appended to `error` that names the file and the remedy. */
int mj_data_dir_open(struct mj_data_dir *d, const char *path, struct mj_buf *error);
/* Whether a router has it open now. */
bool mj_data_dir_is_used(const char *path);
void mj_data_dir_close(struct mj_data_dir *d);
