/* Which LuaJIT the scripts run in. */
#pragma once

#include <stdbool.h>

/* "2.1.…"; static storage. */
const char *mj_script_luajit_version(void);
/* True when compiled code looks at hooks, so that scripts run with the JIT on and a runaway one can
 * still be stopped. False: user scripts run interpreted. */
bool mj_script_hook_checks(void);
