/* The firehose client through TLS: the certificate must be trusted and name the host. The
 * authority and its certificates are made here, for the length of the test. */
#include "support/fakehose.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

static EVP_PKEY *key;
static char ca_path[] = "/tmp/moonjet-ca-XXXXXX";

/* A self-signed certificate for one name. */
static X509 *make_certificate(const char *alt_name)
{
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"Moonjet test", -1, -1,
                               0);
    X509_set_issuer_name(x, name);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt_name);
    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

static SSL_CTX *server_tls(const char *alt_name, bool trusted)
{
    X509 *x = make_certificate(alt_name);
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(tls, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(tls, key), 1);
    FILE *f = fopen(ca_path, "w");
    assert_non_null(f);
    if (trusted)
        PEM_write_X509(f, x);
    fclose(f);
    X509_free(x);
    return tls;
}

static void serve_events(struct visit *v)
{
    accept_upgrade(v);
    if (v->number == 0) {
        say_events(v, 1, 4);
        return; /* gone, without a goodbye */
    }
    say_events(v, 5, 8);
    say_message(v, MJ_WS_PING, "are you there?", 14);
    /* Longer than a TLS record, than all a socket buffers, and than one read of ours. */
    static uint8_t big[3000000];
    say_message(v, MJ_WS_BINARY, big, sizeof big);
    say_events(v, 9, 10);
    listen_out(v, true);
}

static bool done_10_events_and_pong(struct rig *r)
{
    return r->events >= 10 && r->server->v[1].pings == -1;
}

static void test_trusted(void **state)
{
    static const char *const names[][2] = {{"DNS:localhost", "localhost"},
                                           {"IP:127.0.0.1", "127.0.0.1"}};
    (void)state;
    for (size_t i = 0; i < MJ_COUNT(names); i++) {
        SSL_CTX *tls = server_tls(names[i][0], true);
        struct rig r;
        rig_open_tls(&r, serve_events, -1, tls, names[i][1]);
        rig_run(&r, done_10_events_and_pong);
        expect_events(&r, 1, 10);
        assert_true(asked(&r, 1, "&cursor=4 "));
        assert_int_equal(atomic_load(&r.server->visits), 2);
        rig_close(&r);
        SSL_CTX_free(tls);
    }
}

static bool done_3_attempts(struct rig *r)
{
    return mj_metric_get(r->f->m.reconnects[NETWORK]) >= 3;
}

static void test_refused(void **state)
{
    static const struct {
        const char *alt_name, *host;
        bool trusted;
    } cases[] = {
        {"DNS:localhost", "localhost", false},    /* nobody vouches for it */
        {"DNS:other.example", "localhost", true}, /* another host's */
        {"DNS:localhost", "127.0.0.1", true},     /* the name, not the address */
        {"DNS:*.localhost", "localhost", true},   /* a wildcard needs a label */
    };
    (void)state;
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        SSL_CTX *tls = server_tls(cases[i].alt_name, cases[i].trusted);
        struct rig r;
        rig_open_tls(&r, serve_events, -1, tls, cases[i].host);
        rig_run(&r, done_3_attempts);
        assert_int_equal(r.events, 0);
        assert_false(mj_firehose_connected(r.f));
        for (int v = 0; v < VISITS_MAX; v++) /* not a byte of the request was sent */
            assert_int_equal(r.server->v[v].request_len, 0);
        rig_close(&r);
        SSL_CTX_free(tls);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* the test server's SSL_write() */
    mj_log_setup(getenv("TEST_LOG") ? MJ_LOG_DEBUG : MJ_LOG_ERROR + 1, false);
    int fd = mkstemp(ca_path);
    if (fd < 0)
        return 1;
    close(fd);
    setenv("SSL_CERT_FILE", ca_path, 1);
    setenv("SSL_CERT_DIR", "/nonexistent", 1);
    key = EVP_EC_gen("P-256");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trusted),
        cmocka_unit_test(test_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    EVP_PKEY_free(key);
    unlink(ca_path);
    return failed;
}
