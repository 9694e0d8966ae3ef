#include "deliver/version.h"

#include <ares.h>
#include <curl/curl.h>

const char *mj_deliver_curl_version(void) { return curl_version_info(CURLVERSION_NOW)->version; }
const char *mj_deliver_ares_version(void) { return ares_version(NULL); }
