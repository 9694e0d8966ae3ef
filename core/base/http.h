/* HTTP/1.1 request and response heads and query strings, as spans into the caller's bytes. */
#pragma once

#include "base/bytes.h"

#define MJ_HTTP_HEADERS_MAX 64

struct mj_http_head {
    struct mj_span method, target; /* request only; borrowed from the input */
    struct mj_span path, query;    /* target split at the first '?'; still percent-encoded */
    int status;                    /* response only */
    size_t count;
    struct {
        struct mj_span name, value; /* borrowed; value without outer blanks */
    } headers[MJ_HTTP_HEADERS_MAX];
};

/* Parses a head that ends in CRLFCRLF. Returns its size in bytes, MJ_EAGAIN when the end is not
 * there yet (the caller bounds how long it waits and how much it keeps), MJ_ESYNTAX, or MJ_ELIMIT
 * for too many headers. Strict: HTTP/1.0 and 1.1, CRLF line ends only, no folded headers. */
int mj_http_parse_request(struct mj_span in, struct mj_http_head *out);
int mj_http_parse_response(struct mj_span in, struct mj_http_head *out);
/* First header of that name, any case; {NULL, 0} when absent. */
struct mj_span mj_http_header(const struct mj_http_head *head, const char *name);
/* Retry-After of a response in seconds, 0…3,600: a number, or a date as seen from now_s (Unix
 * seconds). 0 when absent or nonsense. */
int64_t mj_http_retry_after(const struct mj_http_head *head, int64_t now_s);
/* True when a comma-separated header value holds the token, any case. */
bool mj_http_has_token(struct mj_span value, const char *token);

/* Takes the next `key=value` off *rest (still encoded). False at the end. Empty pairs are
 * skipped. */
bool mj_query_next(struct mj_span *rest, struct mj_span *key, struct mj_span *value);
/* Appends the percent-decoded text ('+' is a blank). 0, or MJ_ESYNTAX for a bad escape (out is
 * unchanged). */
int mj_query_decode(struct mj_span in, struct mj_buf *out);

/* An address to listen on or a URL to call.
 *   "HOST:PORT", ":PORT" (every interface), "[::1]:PORT"; port 0 lets the system choose. */
struct mj_hostport {
    char host[256]; /* "" = every interface */
    int port;
};
int mj_hostport_parse(const char *text, struct mj_hostport *out);
/* Bound, listening, non-blocking, close-on-exec socket, or MJ_EIO with errno set. *port gets the
 * real port. */
int mj_listen(const struct mj_hostport *at, int *port);

struct mj_url {
    bool tls;        /* wss, https */
    char host[256];  /* without brackets */
    int port;        /* default 80 or 443 */
    char path[2048]; /* with query; "/" at least */
    bool has_path;   /* the text named a path other than "/"; false with a bare "/?query" too */
};
/* ws, wss, http, https only; no user name; a fragment is cut off. MJ_ESYNTAX or MJ_ELIMIT. */
int mj_url_parse(const char *text, struct mj_url *out);
