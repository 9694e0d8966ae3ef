/* The data directory: what one router keeps between runs. Today that is where each source got to;
 * a lock keeps two routers from sharing it.
 *
 *   DATA/lock      held while the process lives
 *   DATA/cursors   one line per source: seq, a blank, the URL
 *
 * A cursor is only ever written after the frames up to it have been published, so a crash repeats
 * events rather than losing them. */
#pragma once

#include "base/bytes.h"

#define MJ_SOURCES_MAX 64

struct mj_data_dir {
    char *path;   /* owned; NULL when nothing is kept */
    int lock;     /* owned descriptor, -1 for none */
    size_t count; /* cursors read or set */
    struct {
        char *url; /* owned */
        int64_t seq;
    } cursors[MJ_SOURCES_MAX];
};

/* Makes the directory if needed, locks it and reads the cursors. path NULL or "": nothing is kept
 * and the other calls do nothing. 0, or MJ_EIO / MJ_ESYNTAX with a sentence appended to `error`
 * that names the file and the remedy. */
int mj_data_dir_open(struct mj_data_dir *d, const char *path, struct mj_buf *error);
/* The seq kept for the URL, or -1. */
int64_t mj_data_dir_cursor(const struct mj_data_dir *d, const char *url);
/* Remembers in memory; true when it is news. MJ_SOURCES_MAX URLs at most. */
bool mj_data_dir_set(struct mj_data_dir *d, const char *url, int64_t seq);
/* Replaces the file as a whole; `sync` also waits for the disk. 0 or MJ_EIO with errno set. */
int mj_data_dir_save(const struct mj_data_dir *d, bool sync);
void mj_data_dir_close(struct mj_data_dir *d);
