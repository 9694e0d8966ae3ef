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

/* The reader. Bytes go in as the socket delivered them, whole messages come out:
 *
 *   received:  [frame][frame][frame][fra        me][frame] …
 *                 │      │      │     └────┬──────┘
 *              in place, no copy       put together in an owned buffer, as are fragmented messages
 *
 * Memory is bounded by `limit` and grows with the bytes that arrived, never with a length that was
 * merely announced. Refused, with the close code to send: reserved bits and opcodes, a mask that
 * is missing or forbidden, lengths not in their shortest form, control frames that are fragmented
 * or above 125 bytes, fragments out of turn, close frames with half or no valid code (1002);
 * messages above the limit (1009). Text is not checked for UTF-8. */
#define MJ_WS_LIMIT 5000000 /* a firehose frame (spec/firehose.md §9) */

struct mj_ws_msg {
    enum mj_ws_opcode op;   /* TEXT, BINARY, CLOSE, PING, PONG */
    struct mj_span payload; /* unmasked; borrowed until the next call on the reader */
};

struct mj_ws_reader {
    bool masked;         /* the peer must mask (it is a client), or must not (it is a server) */
    size_t limit;        /* bytes of a message */
    int close_code;      /* after a failure: what to tell the peer */
    uint8_t *in;         /* borrowed: the rest of what mj_ws_reader_feed() gave */
    size_t in_len;       /* bytes at in */
    struct mj_buf frame; /* owned: a frame, head included, that was cut by the end of a feed */
    struct mj_buf parts; /* owned: payload so far of a fragmented message */
    uint8_t parts_op;    /* its opcode; 0 = none under way */
    bool frame_spent, parts_spent; /* handed out; emptied by the next call */
};

/* limit: bytes of one message, 0 for MJ_WS_LIMIT. Small until something arrives. */
void mj_ws_reader_init(struct mj_ws_reader *r, bool masked, size_t limit);
void mj_ws_reader_deinit(struct mj_ws_reader *r);
/* Gives received bytes, which the reader unmasks in place and borrows until mj_ws_reader_next()
 * returned 0. Only call it then, or at the start. */
void mj_ws_reader_feed(struct mj_ws_reader *r, uint8_t *p, size_t n);
/* 1 with *out filled; 0 when all bytes are used up; MJ_ESYNTAX, MJ_EBIG or MJ_ENOMEM with
 * r->close_code set, after which the connection must be closed (the reader stays in error). */
int mj_ws_reader_next(struct mj_ws_reader *r, struct mj_ws_msg *out);
/* Code of a close message's payload; 1005 when it carries none. */
int mj_ws_close_code(struct mj_span payload);
