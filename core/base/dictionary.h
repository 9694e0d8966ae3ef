/* The zstd dictionary that server and clients share: a file, found where it is named or where this
 * program keeps it, and checked before anybody uses it.
 *
 *   --zstd-dictionary FILE            named: must be there
 *   DATA/zstd_dictionary              of this router
 *   BINDIR/../share/moonjet/…         installed with the program
 *   BINDIR/../zstd_dictionary         for a program run from its build directory (build/PRESET)
 *
 * And the other end of it: a decoder of messages that are one zstd frame each. */
#pragma once

#include "base/bytes.h"

#define MJ_DICTIONARY_FILE  "zstd_dictionary"
#define MJ_DICTIONARY_BYTES (16u << 20) /* a larger file is no dictionary for small messages */
/* What Jetstream's clients carry (spec/jetstream-v1.md §5). */
#define MJ_DICTIONARY_JETSTREAM_ID 1612007021u
#define MJ_DICTIONARY_JETSTREAM_SHA256                                                             \
    "b8d77b46933aceecbdd5275a01241efc985c970c78162b8150cf67a26522f70c"

struct mj_dictionary {
    struct mj_buf bytes; /* owned */
    uint32_t id;
    char *path; /* owned: where it was found */
};

/* 0 when libzstd accepts the bytes as a dictionary with an id, for both directions; MJ_ETYPE when
 * they do not start like one, MJ_EINVAL when the id is missing, MJ_ESYNTAX when the tables are
 * damaged, MJ_EBIG above the limit. *why gets a sentence that fits behind a file's name. */
int mj_dictionary_check(struct mj_span bytes, uint32_t *id, const char **why);
/* Reads and checks that file. 0, or a negative error with a sentence that names the file and the
 * remedy appended to `error`; *out is then empty. */
int mj_dictionary_load(const char *path, struct mj_dictionary *out, struct mj_buf *error);
/* The named file, or with NULL or "" the first default that is there (data NULL or "": none of a
 * data directory). A default that is there but no good is an error. MJ_ENOENT with `error` as it
 * was: nothing was named and there is none. */
int mj_dictionary_find(const char *named, const char *data, struct mj_dictionary *out,
                       struct mj_buf *error);
void mj_dictionary_deinit(struct mj_dictionary *d);
/* Where a default is looked for: owned paths, MJ_DICTIONARY_PLACES at most. The first is where one
 * belongs. Returns their number; 0 when this program does not know where it is. */
#define MJ_DICTIONARY_PLACES 3
size_t mj_dictionary_places(const char *data, char *out[MJ_DICTIONARY_PLACES]);
/* SHA-256 in hexadecimal, NUL-terminated. */
void mj_sha256_hex(struct mj_span bytes, char out[65]);

/* Decodes messages that are exactly one zstd frame each, whatever wrote them. */
struct mj_zmessage;

/* `dictionary` is borrowed for the call; {NULL, 0} for none. A message may hold at
 * most `limit` bytes once unpacked. NULL when libzstd refuses the dictionary. */
struct mj_zmessage *mj_zmessage_new(struct mj_span dictionary, size_t limit);
void mj_zmessage_free(struct mj_zmessage *z); /* NULL is fine */
/* *out is borrowed until the next call. 0; MJ_ESYNTAX for what is not one whole frame, MJ_EHASH
 * for a wrong checksum, MJ_EBIG above the limit, MJ_EMISMATCH when it was made with another
 * dictionary (mj_zmessage_wants() tells which), MJ_ENOMEM. */
int mj_zmessage_decode(struct mj_zmessage *z, struct mj_span in, struct mj_span *out);
/* The dictionary id that a frame names; 0 for none. */
uint32_t mj_zmessage_wants(struct mj_span in);
