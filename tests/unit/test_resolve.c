/* The resolver against a directory, a DNS server and hosts with TLS, all real, all here. */
#include "cmocka_all.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>

#include "base/err.h"
#include "base/log.h"
#include "deliver/resolve.h"
#include "support/dnsserver.h"
#include "support/httpserver.h"

#define ALICE "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
#define BOB   "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
#define CAROL "did:plc:cccccccccccccccccccccccc"
#define DAVE  "did:plc:dddddddddddddddddddddddd"
#define WEB   "did:web:web.moonjet.dev"

static struct httpserver plc, hosts;
static struct dnsserver dns;
static struct mj_http *http;
static struct mj_resolver *resolver;
static char ca_path[] = "/tmp/moonjet-ca-XXXXXX";

static const struct {
    const char *did, *handle;
} people[] = {{ALICE, "alice.moonjet.dev"},
              {BOB, "bob.moonjet.dev"},
              {CAROL, "alice.moonjet.dev"}, /* which is somebody else's */
              {WEB, "web.moonjet.dev"}};

static bool reply_document(struct httprequest *r, const char *did)
{
    MJ_AUTO_BUF body = {0};
    for (size_t i = 0; i < MJ_COUNT(people); i++)
        if (strcmp(people[i].did, did) == 0) {
            mj_buf_printf(&body,
                          "{\"id\":\"%s\",\"alsoKnownAs\":[\"at://%s\"],\"service\":[{\"id\":"
                          "\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\","
                          "\"serviceEndpoint\":\"https://pds.moonjet.dev\"}]}",
                          did, people[i].handle);
            return http_reply(r, 200, "Content-Type: application/json\r\n", mj_buf_span(&body));
        }
    if (strcmp(did, DAVE) == 0)
        return http_reply(r, 410, "", MJ_SPAN("{}"));
    return http_reply(r, 404, "", MJ_SPAN("{}"));
}

static bool answer_plc(struct httprequest *r)
{
    MJ_AUTO_BUF did = {0};
    mj_buf_put(&did, r->head.path.ptr + 1, r->head.path.len - 1);
    if (mj_span_is(r->head.path, "/did:plc:eeeeeeeeeeeeeeeeeeeeeeee")) {
        http_hold(r);
        return http_reply(r, 404, "", MJ_SPAN("{}"));
    }
    return reply_document(r, mj_buf_cstr(&did));
}

static bool answer_host(struct httprequest *r)
{
    struct mj_span host = mj_http_header(&r->head, "Host");
    if (mj_span_is(r->head.path, "/.well-known/did.json") && mj_span_is(host, "web.moonjet.dev"))
        return reply_document(r, WEB);
    if (mj_span_is(r->head.path, "/.well-known/atproto-did") && mj_span_is(host, "bob.moonjet.dev"))
        return http_reply(r, 200, "", MJ_SPAN("  " BOB "\r\n"));
    if (mj_span_is(r->head.path, "/.well-known/atproto-did") && mj_span_is(host, "web.moonjet.dev"))
        return http_reply(r, 200, "", MJ_SPAN(WEB));
    return http_reply(r, 404, "", MJ_SPAN("<html>"));
}

static const char *txt(const char *name)
{
    if (strcmp(name, "_atproto.alice.moonjet.dev") == 0)
        return "v=spf1|did=" ALICE;
    if (strcmp(name, "_atproto.twice.moonjet.dev") == 0)
        return "did=" ALICE "|did=" BOB;
    if (strcmp(name, "_atproto.same.moonjet.dev") == 0)
        return "did=did:plc:~aaaaaaaaaaaaaaaaaaaaaaaa|did=" ALICE;
    if (strcmp(name, "_atproto.bad.moonjet.dev") == 0)
        return "did=nonsense";
    return strcmp(name, "_atproto.none.moonjet.dev") == 0 ? "" : NULL;
}

static SSL_CTX *make_tls(void)
{
    static const char names[] = "DNS:bob.moonjet.dev,DNS:web.moonjet.dev,DNS:bad.moonjet.dev";
    EVP_PKEY *key = EVP_EC_gen("P-256");
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
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(tls, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(tls, key), 1);
    FILE *f = fopen(ca_path, "w");
    assert_non_null(f);
    PEM_write_X509(f, x);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
    return tls;
}

/* With cfg's times and sizes. */
static void start(struct mj_resolver_cfg cfg)
{
    static char url[64], server[64], to[4][100];
    static const char *const names[] = {"bob", "web", "bad", "wrong"};
    static const char *connect_to[5];
    static struct mj_reach *reach;
    MJ_AUTO_BUF error = {0};
    signal(SIGPIPE, SIG_IGN);
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    http_start(&plc, answer_plc);
    http_start(&hosts, answer_host);
    hosts.tls = make_tls();
    dns_start(&dns, txt);
    for (size_t i = 0; i < MJ_COUNT(names); i++) {
        snprintf(to[i], sizeof to[i], "%s.moonjet.dev:443:127.0.0.1:%d", names[i], hosts.port);
        connect_to[i] = to[i];
    }
    mj_reach_free(reach);
    reach = mj_reach_new();
    for (size_t i = 0; i < MJ_COUNT(names); i++) {
        char rule[64];
        snprintf(rule, sizeof rule, "%s.moonjet.dev", names[i]);
        assert_int_equal(mj_reach_allow(reach, rule, &error), 0);
    }
    struct mj_http_cfg http_cfg = {.reach = reach, .ca_file = ca_path, .connect_to = connect_to};
    assert_int_equal(mj_http_start(&http_cfg, &http), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", plc.port);
    snprintf(server, sizeof server, "127.0.0.1:%d", dns.port);
    cfg.plc = url;
    cfg.dns = server;
    assert_int_equal(mj_resolver_new(http, &cfg, &resolver), 0);
}

static void stop(void)
{
    mj_http_stop(http);
    mj_resolver_free(resolver);
    http_stop(&plc);
    http_stop(&hosts);
    SSL_CTX_free(hosts.tls);
    dns_stop(&dns);
}

struct reply {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    char text[1024]; /* "did handle pds", or "!error" */
};

static void on_done(void *ctx, const struct mj_identity *id)
{
    struct reply *r = ctx;
    pthread_mutex_lock(&r->lock);
    assert_false(r->done);
    r->done = true;
    if (id->error)
        snprintf(r->text, sizeof r->text, "!%s", id->error);
    else
        snprintf(r->text, sizeof r->text, "%s %s %s", id->did, id->handle ? id->handle : "-",
                 id->pds ? id->pds : "-");
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void ask_how(struct reply *r, const char *who, enum mj_resolve how)
{
    *r = (struct reply){0};
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    mj_resolver_ask(resolver, mj_str(who), how, on_done, r);
}

static void ask(struct reply *r, const char *who) { ask_how(r, who, MJ_RESOLVE_WHO); }

static const char *await(struct reply *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->done)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
    return r->text;
}

static void expect_how(const char *who, enum mj_resolve how, const char *text)
{
    struct reply r;
    ask_how(&r, who, how);
    if (!strstr(await(&r), text))
        fail_msg("%s is %s", who, r.text);
}

static void expect(const char *who, const char *text) { expect_how(who, MJ_RESOLVE_WHO, text); }

#define PDS " https://pds.moonjet.dev"

static void directions(void **state)
{
    (void)state;
    start((struct mj_resolver_cfg){0});
    expect(ALICE, ALICE " alice.moonjet.dev" PDS);
    expect("Alice.Moonjet.DEV", ALICE " alice.moonjet.dev" PDS);
    expect(BOB, BOB " bob.moonjet.dev" PDS); /* by HTTPS */
    expect("bob.moonjet.dev", BOB " bob.moonjet.dev" PDS);
    expect(CAROL, CAROL " -" PDS); /* the handle leads to somebody else */
    expect(WEB, WEB " web.moonjet.dev" PDS);
    expect("same.moonjet.dev",
           "!same.moonjet.dev: leads to " ALICE ", which claims alice.moonjet.dev");
    expect("twice.moonjet.dev", "!twice.moonjet.dev: its DNS names several DIDs");
    expect("bad.moonjet.dev", "!bad.moonjet.dev: neither DNS nor its host name a DID");
    expect("wrong.moonjet.dev", "!wrong.moonjet.dev: no _atproto record in DNS; https://wrong");
    expect(DAVE, "!" DAVE ": the DID has been given up");
    expect("did:plc:ffffffffffffffffffffffff", "there is no such DID");
    expect("did:key:zQ3sh", "only did:plc and did:web");
    expect("did:web:10.0.0.1", "only did:plc and did:web");
    expect("did:web:other.moonjet.internal", "only did:plc and did:web");
    expect("alice.local", "its top-level domain is not of the public internet");
    expect("nonsense", "neither a DID nor a handle");
    expect("", "neither a DID nor a handle");
    expect("a b.example.com", "neither a DID nor a handle");
    char longest[5000];
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "did:web:", 8);
    longest[sizeof longest - 1] = 0;
    expect(longest, "neither a DID nor a handle");
    struct reply r;
    ask(&r, "x");
    await(&r);
    r.done = false;
    mj_resolver_ask(resolver, mj_span("did:plc\0x", 9), MJ_RESOLVE_WHO, on_done, &r);
    await(&r);
    assert_int_equal(r.text[0], '!');
    stop();
}

static void caching(void **state)
{
    (void)state;
    start((struct mj_resolver_cfg){0});
    expect(ALICE, ALICE " alice");
    expect(ALICE, ALICE " alice");
    expect("alice.moonjet.dev", ALICE " alice");
    assert_int_equal(atomic_load(&plc.requests), 1);
    assert_int_equal(atomic_load(&dns.questions), 1);
    expect("did:plc:ffffffffffffffffffffffff", "there is no such DID");
    expect("did:plc:ffffffffffffffffffffffff", "there is no such DID");
    assert_int_equal(atomic_load(&plc.requests), 2);

    /* Those who ask at the same time wait for one request. */
    struct reply many[20];
    for (size_t i = 0; i < MJ_COUNT(many); i++)
        ask(&many[i], "did:plc:eeeeeeeeeeeeeeeeeeeeeeee");
    expect(BOB, BOB); /* others are not held up */
    int before = atomic_load(&plc.requests);
    http_release(&plc);
    for (size_t i = 0; i < MJ_COUNT(many); i++)
        assert_non_null(strstr(await(&many[i]), "there is no such DID"));
    assert_int_equal(atomic_load(&plc.requests), before);
    stop();

    /* Nothing is kept for long, or nothing at all. */
    start((struct mj_resolver_cfg){.keep_us = 1, .keep_failed_us = 1});
    expect(ALICE, ALICE " alice");
    expect(ALICE, ALICE " alice");
    assert_int_equal(atomic_load(&plc.requests), 2);
    stop();
    start((struct mj_resolver_cfg){.max_entries = 1});
    for (int i = 0; i < 3; i++) {
        expect(ALICE, ALICE " alice");
        expect(BOB, BOB " bob");
        expect(DAVE, "given up");
        expect("alice.local", "public internet");
    }
    assert_true(atomic_load(&plc.requests) >= 7);
    stop();
    start((struct mj_resolver_cfg){.max_asks = 2});
    struct reply held[2];
    for (size_t i = 0; i < MJ_COUNT(held); i++)
        ask(&held[i], "did:plc:eeeeeeeeeeeeeeeeeeeeeeee");
    expect(BOB, "too many look-ups are waiting");
    http_release(&plc);
    for (size_t i = 0; i < MJ_COUNT(held); i++)
        await(&held[i]);
    expect(BOB, BOB " bob");
    stop();
}

/* What is young counts, so nobody can have us ask and ask. */
static void out_of_date(void **state)
{
    (void)state;
    start((struct mj_resolver_cfg){0});
    expect(ALICE, ALICE " alice");
    expect_how(ALICE, MJ_RESOLVE_ANEW, ALICE " -" PDS);
    assert_int_equal(atomic_load(&plc.requests), 1);
    expect_how(BOB, MJ_RESOLVE_ANEW, BOB " -" PDS);
    assert_int_equal(atomic_load(&plc.requests), 2);
    stop();
    start((struct mj_resolver_cfg){.keep_failed_us = 1});
    expect(ALICE, ALICE " alice");
    expect_how(ALICE, MJ_RESOLVE_ANEW, ALICE " -" PDS);
    assert_int_equal(atomic_load(&plc.requests), 2);
    assert_int_equal(atomic_load(&dns.questions), 1); /* the handle is none of its business */
    expect(ALICE, ALICE " alice");
    assert_int_equal(atomic_load(&plc.requests), 2);
    stop();
}

static void on_fetched(void *ctx, const struct mj_fetched *a)
{
    on_done(ctx, &(struct mj_identity){.error = a->error, .did = "fetched"});
}

/* That we had no turn says nothing about a DID: it is asked for again, not in a minute only. */
static void no_turn(void **state)
{
    (void)state;
    start((struct mj_resolver_cfg){.timeout_us = 100000});
    MJ_AUTO_BUF url = {0};
    mj_buf_printf(&url, "http://127.0.0.1:%d/did:plc:eeeeeeeeeeeeeeeeeeeeeeee", plc.port);
    struct mj_fetch f = {.script = "busy.lua",
                         .method = MJ_SPAN("GET"),
                         .url = mj_buf_span(&url),
                         .timeout_us = 60000000,
                         .max_bytes = 1000};
    struct reply held[16]; /* as many as may be on their way to one host */
    for (size_t i = 0; i < MJ_COUNT(held); i++) {
        held[i] = (struct reply){0};
        pthread_mutex_init(&held[i].lock, NULL);
        pthread_cond_init(&held[i].changed, NULL);
        mj_http_send(http, &f, true, on_fetched, &held[i]);
    }
    expect(BOB, "had no turn before its timeout");
    http_release(&plc);
    for (size_t i = 0; i < MJ_COUNT(held); i++)
        await(&held[i]);
    expect(BOB, BOB " bob");
    stop();
}

/* The end comes while some wait for a directory, and some for a name server that says nothing. */
static void stopping(void **state)
{
    (void)state;
    start((struct mj_resolver_cfg){0});
    struct reply a, b;
    ask(&a, "did:plc:eeeeeeeeeeeeeeeeeeeeeeee");
    ask(&b, "did:plc:eeeeeeeeeeeeeeeeeeeeeeee");
    mj_http_stop(http);
    assert_non_null(strstr(await(&a), "Moonjet is stopping"));
    assert_non_null(strstr(await(&b), "Moonjet is stopping"));
    mj_resolver_free(resolver);
    http_stop(&plc);
    http_stop(&hosts);
    SSL_CTX_free(hosts.tls);
    dns_stop(&dns);
}

static const char *silent(const char *name)
{
    (void)name;
    return "!";
}

static void silent_dns(void **state)
{
    (void)state;
    start((struct mj_resolver_cfg){0});
    dns.txt = silent;
    struct reply a;
    ask(&a, "alice.moonjet.dev");
    while (!atomic_load(&dns.questions))
        expect(DAVE, "given up"); /* others are not held up */
    mj_http_stop(http);
    mj_resolver_free(resolver);
    assert_non_null(strstr(await(&a), "stopping"));
    http_stop(&plc);
    http_stop(&hosts);
    SSL_CTX_free(hosts.tls);
    dns_stop(&dns);
}

/* Keys and the PDS are known without a word from DNS; what was found serves those who want more. */
static void document_only(void **state)
{
    (void)state;
    start((struct mj_resolver_cfg){0});
    expect_how(ALICE, MJ_RESOLVE_DOCUMENT, ALICE " -" PDS);
    expect_how(ALICE, MJ_RESOLVE_DOCUMENT, ALICE " -" PDS);
    expect_how(DAVE, MJ_RESOLVE_DOCUMENT, "!" DAVE ": the DID has been given up");
    assert_int_equal(atomic_load(&dns.questions), 0);
    expect(ALICE, ALICE " alice.moonjet.dev" PDS);
    expect_how("alice.moonjet.dev", MJ_RESOLVE_DOCUMENT, ALICE " alice.moonjet.dev" PDS);
    assert_int_equal(atomic_load(&plc.requests), 2);
    stop();
}

static void bad_servers(void **state)
{
    (void)state;
    struct mj_http_cfg cfg = {0};
    struct mj_resolver *r;
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    assert_int_equal(mj_http_start(&cfg, &http), 0);
    struct mj_resolver_cfg bad = {.dns = "not an address"};
    assert_int_equal(mj_resolver_new(http, &bad, &r), MJ_ESYNTAX);
    mj_http_stop(http);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(ca_path);
    close(fd);
    return fd < 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(ca_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directions),    cmocka_unit_test(caching),
        cmocka_unit_test(out_of_date),   cmocka_unit_test(no_turn),
        cmocka_unit_test(stopping),      cmocka_unit_test(silent_dns),
        cmocka_unit_test(document_only), cmocka_unit_test(bad_servers)};
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
