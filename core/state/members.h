/* Members that a set is given from outside: by a list in a script, or by a file.
 *
 *   # friends of the house          a comment
 *   did:plc:abc   # the first       blanks around a member do not count; nor does what follows " #"
 *   did:web:example.com
 *
 * UTF-8 or whatever else: a member is bytes. */
#pragma once

#include "base/bytes.h"

#define MJ_MEMBERS_FILE_MAX ((size_t)1 << 30) /* bytes */

struct mj_members {
    struct mj_buf
        bytes; /* owned: length (4 bytes, as the machine has it) and text, again and again */
    size_t count;
    uint64_t hash; /* of all, in their order */
};

void mj_members_deinit(struct mj_members *m);
/* One more. 0; MJ_EINVAL for an empty one, MJ_EBIG above MJ_STATE_KEY_MAX bytes, MJ_ENOMEM. */
int mj_members_add(struct mj_members *m, struct mj_span text);
/* Takes the next off *rest, which starts as mj_buf_span(&m->bytes). False at the end. */
bool mj_members_next(struct mj_span *rest, struct mj_span *text);
/* Adds those of a file's text. 0, or a negative error with "line N: …" appended to `error`. */
int mj_members_parse(struct mj_members *m, struct mj_span text, struct mj_buf *error);
/* Reads a file. 0, or a negative error with a sentence that names the file, and the line where
 * there is one, appended to `error`. */
int mj_members_read(struct mj_members *m, const char *path, struct mj_buf *error);
