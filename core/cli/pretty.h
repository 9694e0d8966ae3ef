/* A Jetstream event as one short line for people:
 *
 *   14:38:08  + post      did:plc:ewvi7nxzyoun6zhxrhs64oiz  hello, world
 *
 * Strangers wrote what it shows, so nothing that could steer a terminal gets through. */
#pragma once

#include "base/bytes.h"

/* Appends the line and a newline. `colour`: with ANSI colours. What is no event is shown as it is,
 * made harmless. */
void mj_pretty(struct mj_span json, bool colour, struct mj_buf *out);
