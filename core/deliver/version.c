#include "deliver/version.h"

#include <curl/curl.h>

const char *mj_deliver_curl_version(void) { return curl_version_info(CURLVERSION_NOW)->version; }
