/* Which LMDB keeps the scripts' state. */
#pragma once

const char *mj_state_lmdb_version(void); /* "0.9.24", of the library loaded; static storage */
