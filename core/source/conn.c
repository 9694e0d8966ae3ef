#include "source/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/log.h"

struct ssl_ctx_st *mj_conn_tls_new(void)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (!tls || !SSL_CTX_set_default_verify_paths(tls) ||
        !SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION)) {
        mj_log(MJ_LOG_ERROR, "tls", "cannot read the certificate authorities");
        SSL_CTX_free(tls);
        return NULL;
    }
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    return tls;
}

void mj_conn_tls_free(struct ssl_ctx_st *tls) { SSL_CTX_free(tls); }

/* What went wrong in the last call, from whichever layer knows. */
static int fail(struct mj_conn *c, const char *doing, int saved_errno)
{
    unsigned long code = ERR_peek_last_error();
    long verify = c->ssl ? SSL_get_verify_result(c->ssl) : X509_V_OK;
    const char *text = "connection ended";
    if (verify != X509_V_OK)
        text = X509_verify_cert_error_string(verify);
    else if (code && ERR_reason_error_string(code))
        text = ERR_reason_error_string(code);
    else if (saved_errno)
        text = strerror(saved_errno);
    snprintf(c->why, sizeof c->why, "%s: %s", doing, text);
    ERR_clear_error();
    return MJ_EIO;
}

int mj_conn_open(struct mj_conn *c, int fd, struct ssl_ctx_st *tls, const char *host)
{
    *c = (struct mj_conn){.fd = fd};
    if (!tls)
        return 0;
    ERR_clear_error();
    c->ssl = SSL_new(tls);
    if (!c->ssl || !SSL_set_fd(c->ssl, fd))
        return fail(c, "TLS", 0);
    struct in6_addr address;
    bool numeric =
        inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
    int ok = numeric ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), host)
                     : SSL_set1_host(c->ssl, host) && SSL_set_tlsext_host_name(c->ssl, host);
    if (!ok)
        return fail(c, "TLS", 0);
    SSL_set_connect_state(c->ssl);
    return 0;
}

/* Sorts out a TLS call that did not succeed: 0 for "later", MJ_ECLOSED, MJ_EIO. */
static int settle(struct mj_conn *c, int result, const char *doing)
{
    int saved = errno;
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_WANT_WRITE:
        c->wants_write = true;
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return MJ_ECLOSED;
    default:
        return fail(c, doing, saved);
    }
}

int mj_conn_handshake(struct mj_conn *c)
{
    c->wants_write = false;
    if (!c->ssl)
        return 1;
    ERR_clear_error();
    int r = SSL_do_handshake(c->ssl);
    if (r == 1)
        return 1;
    r = settle(c, r, "TLS handshake");
    return r == MJ_ECLOSED ? fail(c, "TLS handshake", 0) : r;
}

int64_t mj_conn_read(struct mj_conn *c, uint8_t *p, size_t cap)
{
    if (c->ssl) {
        /* One call yields one record, 16 KiB at most: gather, so that batches stay large. What
         * ended the gathering is met again by the next call. */
        size_t got = 0;
        int n = 0;
        ERR_clear_error();
        while (got < cap && (n = SSL_read(c->ssl, p + got, (int)(cap - got))) > 0)
            got += (size_t)n;
        return got ? (int64_t)got : settle(c, n, "read");
    }
    ssize_t n = recv(c->fd, p, cap, 0);
    if (n > 0)
        return n;
    if (n == 0)
        return MJ_ECLOSED;
    return errno == EAGAIN || errno == EINTR ? 0 : fail(c, "read", errno);
}

bool mj_conn_pending(const struct mj_conn *c) { return c->ssl && SSL_pending(c->ssl) > 0; }

int64_t mj_conn_write(struct mj_conn *c, const uint8_t *p, size_t n)
{
    c->wants_write = false;
    if (c->ssl) {
        ERR_clear_error();
        int w = SSL_write(c->ssl, p, (int)n);
        if (w > 0)
            return w;
        int r = settle(c, w, "write");
        return r == MJ_ECLOSED ? fail(c, "write", 0) : r;
    }
    ssize_t w = send(c->fd, p, n, MSG_NOSIGNAL);
    if (w >= 0)
        return w;
    if (errno != EAGAIN && errno != EINTR)
        return fail(c, "write", errno);
    c->wants_write = true;
    return 0;
}

void mj_conn_close(struct mj_conn *c)
{
    if (c->ssl) {
        ERR_clear_error();
        SSL_shutdown(c->ssl); /* one way: our close_notify goes out if there is room */
        SSL_free(c->ssl);
        ERR_clear_error();
    }
    if (c->fd >= 0)
        shutdown(c->fd, SHUT_RDWR);
    c->ssl = NULL;
    c->fd = -1;
}
