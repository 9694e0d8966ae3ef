/* What the verbs of `moonjet dictionary` share. */
#pragma once

#include "base/dictionary.h"
#include "base/options.h"

/* Replaces the file at `path` as a whole, readable by everybody; its directory must be there.
 * False with errno set. */
bool mj__dictionary_write(const char *path, struct mj_span bytes);
/* Prints id, size and SHA-256 on stdout, and whether Jetstream's clients carry it. */
void mj__dictionary_print(const char *path, struct mj_span bytes, uint32_t id);

extern const struct mj_command mj__dictionary_train;
