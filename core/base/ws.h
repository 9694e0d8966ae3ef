/* WebSocket framing (RFC 6455), without sockets: frame heads, masking, the handshake key, and a
 * reader that takes whatever a socket delivered. Used by the firehose client and server, `tail`,
 * and by the journal, which stores each event behind its ready-made server frame head. */
#pragma once

#include "base/bytes.h"

#define MJ_WS_HEAD_MAX 14 /* with a mask; 10 without */

enum mj_ws_opcode {
    MJ_WS_CONT = 0,
    MJ_WS_TEXT = 1,
    MJ_WS_BINARY = 2,
    MJ_WS_CLOSE = 8,
    MJ_WS_PING = 9,
    MJ_WS_PONG = 10
};

/* Writes the head of one unmasked, final frame with `len` payload bytes; returns its size (2, 4
 * or 10). */
size_t mj_ws_head(uint8_t out[MJ_WS_HEAD_MAX], enum mj_ws_opcode op, uint64_t len);
/* The same, masked (client to server); returns its size (6, 8 or 14). */
size_t mj_ws_head_masked(uint8_t out[MJ_WS_HEAD_MAX], enum mj_ws_opcode op, uint64_t len,
                         const uint8_t mask[4]);
/* XORs n bytes in place; `phase` is the offset of p[0] within the payload. */
void mj_ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t phase);
/* Fresh random Sec-WebSocket-Key, NUL-terminated. */
void mj_ws_new_key(char out[25]);
/* Sec-WebSocket-Accept for a key, NUL-terminated. */
void mj_ws_accept(struct mj_span key, char out[29]);
