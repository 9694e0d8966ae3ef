/* Reading Lua source files; internal to core/script. */
#pragma once

#include <lua.h>

#include "base/bytes.h"

#define MJ_SOURCE_MAX (1 << 20) /* bytes */

/* Pushes the file's compiled chunk, or a message. Text only. 0, or a Lua status; `shown` is how
 * messages name the file. */
int mj_load_source(lua_State *L, const char *path, const char *shown);

/* The files that a VM was made from, with what was in them. */
struct mj_source_file {
    char *path; /* owned */
    bool data;  /* a set's file, which may be long: told by its time and size */
    uint64_t hash;
};
struct mj_sources {
    struct mj_source_file *files; /* owned */
    size_t count;
};

/* Remembers a file that was read while loading. */
void mj_sources_add(struct mj_sources *s, const char *path, struct mj_span bytes);
/* Remembers the file of a set. */
void mj_sources_add_data(struct mj_sources *s, const char *path);
/* Reads them all again: true when one is not what it was. */
bool mj_sources_changed(const struct mj_sources *s);
void mj_sources_deinit(struct mj_sources *s);
