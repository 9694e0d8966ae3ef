/* A client connection: a connected non-blocking socket, in the clear or through TLS, read and
 * written the same way. It never waits and knows no event loop; the owner polls.
 *
 * TLS verifies the server: the system's certificate authorities (or SSL_CERT_FILE/SSL_CERT_DIR),
 * the host name, TLS 1.2 at least. */
#pragma once

#include "base/bytes.h"

struct ssl_ctx_st;
struct ssl_st;

struct mj_conn {
    int fd;             /* borrowed: closed by whoever polls it; -1 = none */
    struct ssl_st *ssl; /* owned; NULL in the clear */
    bool wants_write;   /* progress needs the socket to become writable */
    char why[160];      /* after a failure: what happened, for people */
};

/* Settings for all connections of a client. Owned by the caller; NULL with a reason logged when
 * the certificate store cannot be read. */
struct ssl_ctx_st *mj_conn_tls_new(void);
void mj_conn_tls_free(struct ssl_ctx_st *tls);

/* Takes over a connected socket; tls NULL for plain. 0 or MJ_EIO. */
int mj_conn_open(struct mj_conn *c, int fd, struct ssl_ctx_st *tls, const char *host);
/* The TLS handshake's next step: 1 when done (at once in the clear), 0 to be called again when
 * the socket is ready, MJ_EIO. */
int mj_conn_handshake(struct mj_conn *c);
/* Bytes read (1…cap, cap at most 1 GiB); 0 for nothing now, MJ_ECLOSED at the end, MJ_EIO. */
int64_t mj_conn_read(struct mj_conn *c, uint8_t *p, size_t cap);
/* Received, decrypted and unread: poll will not announce it. */
bool mj_conn_pending(const struct mj_conn *c);
/* Bytes written (n at most 1 GiB; 0 for nothing now), or MJ_EIO. */
int64_t mj_conn_write(struct mj_conn *c, const uint8_t *p, size_t n);
/* Says goodbye without waiting. The descriptor is the owner's to close. */
void mj_conn_close(struct mj_conn *c);
