/* The prompt of `moonjet ctl repl` and `moonjet repl --live`: Lua inside a running moonjet. */
#pragma once

/* Talks through the control socket to the script of that name (NULL: the first), until the input
 * ends. Exit status. */
int mj__repl_live(const char *socket, const char *script);
