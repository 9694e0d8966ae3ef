/* What is allowed and yet can hardly be meant: found by looking at the graphs of all scripts
 * together, without an event. */
#pragma once

#include "flow/graph.h"

/* Appends a line "FILE:LINE: what is odd; what to do" for each
 *
 *   - node whose events end nowhere
 *   - from or where that no event can match, as far as kind, operation and collection tell
 *   - stream that is read by a flow and fed by none
 *   - sink that was made and leads nowhere (struct mj_made)
 *   - second :each, sink or webhook without a name in a script: their positions hang on their order
 *   - script without nodes, timers, routes and tasks
 *
 * and returns how many there are. */
size_t mj_lint(const struct mj_graph *const *graphs, size_t count, struct mj_buf *out);
