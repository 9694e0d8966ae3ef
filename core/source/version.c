#include "source/version.h"

#include <libwebsockets.h>

const char *mj_source_lws_version(void) { return lws_get_library_version(); }
