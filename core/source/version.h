/* Which libwebsockets the sources (and the server) run on. */
#pragma once

/* "4.1.6…", of the library loaded, which may be newer than the one compiled against; static
 * storage. */
const char *mj_source_lws_version(void);
