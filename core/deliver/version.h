/* Which libraries make our requests and ask DNS. */
#pragma once

const char *mj_deliver_curl_version(void); /* "7.88.1", of the library loaded; static storage */
const char *mj_deliver_ares_version(void); /* "1.18.1", the same */
