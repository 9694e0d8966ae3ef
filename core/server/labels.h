/* Labels for the world: com.atproto.label.subscribeLabels and queryLabels, on the stream's listener
 * (spec/firehose.md §10). Internal to core/server; everything belongs to the server's thread.
 *
 *   state/labels.h ── published ──wake──▶ every subscriber that has sent all it had: reads on
 *                                         one that has not: reads on when its socket takes more
 *
 * A subscriber is a socket and a seq; what it has not taken yet waits on disk, but for the 64 KiB
 * being written. There are few labels, and few subscribers, beside events: so they have a plain
 * socket each, and share nothing. */
#pragma once

#include "server/internal.h"

struct mj_label_sub;

void mj__labels_init(struct mj_server *s);
/* Frees whoever is left. */
void mj__labels_deinit(struct mj_server *s);
/* On any thread: there is news, for whoever was told to the store. */
void mj__labels_wake(void *server);
/* Once a second: pings and stalls. */
void mj__labels_second(struct mj_server *s);
void mj__labels_close_all(struct mj_server *s);

/* Is the path ours, and is there anything to serve? Then *out is filled in, or *sub is a subscriber
 * that waits for its socket. */
bool mj__labels_endpoint(struct mj_server *s, const struct mj_http_head *head,
                         const struct mj_address *peer, struct mj_answer *out,
                         struct mj_label_sub **sub);
/* Takes the subscriber and the descriptor; `key` is the client's Sec-WebSocket-Key. */
void mj__label_sub_start(struct mj_label_sub *sub, int fd, struct mj_span key);
