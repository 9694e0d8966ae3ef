#include "state/version.h"

#include <lmdb.h>
#include <stdio.h>

const char *mj_state_lmdb_version(void)
{
    static char text[32];
    int major, minor, patch;
    mdb_version(&major, &minor, &patch);
    snprintf(text, sizeof text, "%d.%d.%d", major, minor, patch);
    return text;
}
