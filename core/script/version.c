#include "script/version.h"

#include <lua.h>
#include <luajit.h>

const char *mj_script_luajit_version(void) { return &LUAJIT_VERSION[sizeof "LuaJIT " - 1]; }

bool mj_script_hook_checks(void) { return MOONJET_LUAJIT_CHECKHOOK; }
