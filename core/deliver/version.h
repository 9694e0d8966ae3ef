/* Which libcurl makes our requests. */
#pragma once

const char *mj_deliver_curl_version(void); /* "7.88.1", of the library loaded; static storage */
