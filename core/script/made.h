/* What a script has made at its top level and might have forgotten: sinks that no flow leads to,
 * maps, counters and the like that nothing which runs later can reach. For `moonjet check`.
 * Internal to core/script.
 *
 * The list lies in the VM's registry: a weak table from the value to its text and whether it was
 * used. What the collector takes away before the script has run an event was used by nobody. */
#pragma once

#include "script/vm.h"

/* Notes the value at the top of the stack, as `what` ("jet.map") and `name` (may be NULL), made at
 * the line that called [raises]. Only while a script is loaded with cfg.lint; otherwise nothing. */
void mj_made(lua_State *L, const char *what, const char *name);
/* The same for a sink, which is used once a flow leads to it, not by being held. */
void mj_made_sink(lua_State *L, const char *what, const char *name);
void mj_made_used(lua_State *L, int index);
