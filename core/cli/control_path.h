/* Where a router's control socket is, for the one that makes it and those who talk to it.
 *
 *   --control PATH      there; "" for none
 *   --data DIR          DIR/control.sock
 *   otherwise           $XDG_RUNTIME_DIR/moonjet.sock, a folder that only its user can enter;
 *                       without that variable there is none: in /tmp anybody could be first */
#pragma once

#include "base/bytes.h"

/* Appends the path; given and data may be NULL. True when somebody asked for it: then it must work.
 * Nothing is appended when there is none. */
bool mj_control_path(const char *given, const char *data, struct mj_buf *out);
