#include "base/ws.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "base/err.h"

#define KEEP_BYTES (64u << 10) /* larger reassembly buffers go back once their message is done */

static size_t put_head(uint8_t *out, enum mj_ws_opcode op, uint64_t len, uint8_t mask_bit)
{
    out[0] = (uint8_t)(0x80 | op);
    if (len < 126) {
        out[1] = (uint8_t)(mask_bit | len);
        return 2;
    }
    int n = len < 65536 ? 2 : 8;
    out[1] = (uint8_t)(mask_bit | (n == 2 ? 126 : 127));
    for (int i = 0; i < n; i++)
        out[2 + i] = (uint8_t)(len >> (8 * (n - 1 - i)));
    return 2 + (size_t)n;
}

size_t mj_ws_head(uint8_t out[MJ_WS_HEAD_MAX], enum mj_ws_opcode op, uint64_t len)
{
    return put_head(out, op, len, 0);
}

size_t mj_ws_head_masked(uint8_t out[MJ_WS_HEAD_MAX], enum mj_ws_opcode op, uint64_t len,
                         const uint8_t mask[4])
{
    size_t n = put_head(out, op, len, 0x80);
    memcpy(out + n, mask, 4);
    return n + 4;
}

void mj_ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t phase)
{
    uint8_t m[8];
    for (size_t i = 0; i < sizeof m; i++)
        m[i] = mask[(phase + i) & 3];
    uint64_t wide;
    memcpy(&wide, m, sizeof wide);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        v ^= wide;
        memcpy(p + i, &v, 8);
    }
    for (; i < n; i++)
        p[i] ^= m[i & 7];
}

void mj_ws_new_key(char out[25])
{
    uint8_t nonce[16];
    if (RAND_bytes(nonce, sizeof nonce) != 1)
        abort(); /* without randomness nothing in this process can be trusted */
    EVP_EncodeBlock((unsigned char *)out, nonce, sizeof nonce);
}

void mj_ws_accept(struct mj_span key, char out[29])
{
    MJ_AUTO_BUF text = {0};
    mj_buf_put(&text, key.ptr, key.len);
    mj_buf_puts(&text, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    uint8_t digest[SHA_DIGEST_LENGTH];
    SHA1(text.ptr, text.len, digest);
    EVP_EncodeBlock((unsigned char *)out, digest, sizeof digest);
}

void mj_ws_reader_init(struct mj_ws_reader *r, bool masked, size_t limit)
{
    *r = (struct mj_ws_reader){.masked = masked, .limit = limit ? limit : MJ_WS_LIMIT};
}

void mj_ws_reader_deinit(struct mj_ws_reader *r)
{
    mj_buf_deinit(&r->frame);
    mj_buf_deinit(&r->parts);
    r->in = NULL;
    r->in_len = 0;
}

void mj_ws_reader_feed(struct mj_ws_reader *r, uint8_t *p, size_t n)
{
    r->in = p;
    r->in_len = n;
}

int mj_ws_close_code(struct mj_span payload)
{
    return payload.len < 2 ? 1005 : payload.ptr[0] << 8 | payload.ptr[1];
}

static bool close_code_allowed(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static int fail(struct mj_ws_reader *r, int code)
{
    r->close_code = code;
    return code == 1009 ? MJ_EBIG : code == 1011 ? MJ_ENOMEM : MJ_ESYNTAX;
}

struct head {
    uint8_t op;
    bool fin;
    size_t size; /* of the head, mask included */
    size_t len;  /* of the payload */
    uint8_t mask[4];
};

/* Size of the head whose first two bytes are at p. */
static size_t head_size(const uint8_t *p)
{
    unsigned n = p[1] & 0x7f;
    return 2 + (n == 126 ? 2 : n == 127 ? 8 : 0) + (p[1] & 0x80 ? 4 : 0);
}

/* 1 with *h filled, 0 when more bytes are needed, or the error. What the first two bytes already
 * prove wrong is refused before more is waited for. */
static int parse_head(struct mj_ws_reader *r, const uint8_t *p, size_t n, struct head *h)
{
    if (n < 2)
        return 0;
    h->fin = p[0] & 0x80;
    h->op = p[0] & 0x0f;
    bool control = h->op & 8;
    if (p[0] & 0x70 || (control ? h->op > MJ_WS_PONG : h->op > MJ_WS_BINARY) ||
        !!(p[1] & 0x80) != r->masked)
        return fail(r, 1002);
    if (control && (!h->fin || (p[1] & 0x7f) > 125))
        return fail(r, 1002);
    if (!control && (h->op == MJ_WS_CONT) != (r->parts_op != 0))
        return fail(r, 1002);
    h->size = head_size(p);
    if (n < h->size)
        return 0;
    uint64_t len = p[1] & 0x7f;
    size_t at = 2;
    if (len >= 126) {
        size_t wide = len == 126 ? 2 : 8;
        len = 0;
        for (size_t i = 0; i < wide; i++)
            len = len << 8 | p[at++];
        if (len < (wide == 2 ? 126 : 65536) || len >> 63)
            return fail(r, 1002);
    }
    if (!control && (len > r->limit || r->parts.len > r->limit - len))
        return fail(r, 1009);
    h->len = (size_t)len;
    if (r->masked)
        memcpy(h->mask, p + at, 4);
    return 1;
}

/* Moves at most n bytes from the feed behind what is held of the cut frame. */
static int hold(struct mj_ws_reader *r, size_t n)
{
    if (n > r->in_len)
        n = r->in_len;
    if (n) {
        if (mj_buf_try_reserve(&r->frame, n))
            return fail(r, 1011);
        memcpy(r->frame.ptr + r->frame.len, r->in, n);
        r->frame.len += n;
        r->in += n;
        r->in_len -= n;
    }
    return 0;
}

/* 1 with *h and *p (start of a complete frame), 0 for more, or the error. */
static int next_frame(struct mj_ws_reader *r, struct head *h, uint8_t **p)
{
    int got;
    if (!r->frame.len) {
        got = parse_head(r, r->in, r->in_len, h);
        if (got < 0)
            return got;
        if (got && r->in_len - h->size >= h->len) {
            *p = r->in;
            r->in += h->size + h->len;
            r->in_len -= h->size + h->len;
            return 1;
        }
        return r->in_len ? hold(r, r->in_len) : 0;
    }
    while ((got = parse_head(r, r->frame.ptr, r->frame.len, h)) == 0) {
        size_t want = r->frame.len < 2 ? 2 : head_size(r->frame.ptr);
        if (!r->in_len)
            return 0;
        if ((got = hold(r, want - r->frame.len)) < 0)
            return got;
    }
    if (got < 0)
        return got;
    size_t total = h->size + h->len;
    if ((got = hold(r, total - r->frame.len)) < 0)
        return got;
    if (r->frame.len < total)
        return 0;
    r->frame_spent = true;
    *p = r->frame.ptr;
    return 1;
}

static void empty(struct mj_buf *b)
{
    b->len = 0;
    if (b->cap > KEEP_BYTES)
        mj_buf_deinit(b);
}

int mj_ws_reader_next(struct mj_ws_reader *r, struct mj_ws_msg *out)
{
    if (r->close_code)
        return fail(r, r->close_code);
    for (;;) {
        if (r->parts_spent)
            empty(&r->parts);
        if (r->frame_spent)
            empty(&r->frame);
        r->parts_spent = r->frame_spent = false;

        struct head h;
        uint8_t *p;
        int got = next_frame(r, &h, &p);
        if (got <= 0)
            return got;
        p += h.size;
        if (r->masked)
            mj_ws_mask(p, h.len, h.mask, 0);
        *out = (struct mj_ws_msg){(enum mj_ws_opcode)h.op, mj_span(p, h.len)};
        if (h.op == MJ_WS_CLOSE && h.len &&
            (h.len == 1 || !close_code_allowed(mj_ws_close_code(out->payload))))
            return fail(r, 1002);
        if (h.op & 8 || (h.fin && h.op != MJ_WS_CONT))
            return 1;

        if (mj_buf_try_reserve(&r->parts, h.len))
            return fail(r, 1011);
        mj_buf_put(&r->parts, p, h.len);
        if (h.op != MJ_WS_CONT)
            r->parts_op = h.op;
        if (h.fin) {
            *out = (struct mj_ws_msg){(enum mj_ws_opcode)r->parts_op, mj_buf_span(&r->parts)};
            r->parts_op = 0;
            r->parts_spent = true;
            return 1;
        }
    }
}
