/* DID documents, honest and otherwise, and where they are to be had. */
#include "cmocka_all.h"

#include <stdio.h>

#include "atproto/keys.h"
#include "base/err.h"
#include "deliver/identity.h"

#define DID   "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
#define K256  "@key@" /* stands for a key that parses */
#define OTHER "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"

static const char whole[] =
    "{\"@context\":[\"https://www.w3.org/ns/did/v1\"],\"id\":\"" DID "\",\"alsoKnownAs\":[5,"
    "\"https://x.example\",\"at://not_a_handle\",\"at://Alice.Example.com\",\"at://"
    "b.example.com\"],"
    "\"verificationMethod\":[{\"id\":\"" DID "#other\"},{\"id\":\"" DID
    "#atproto\",\"type\":\"Multikey\",\"controller\":\"" DID "\",\"publicKeyMultibase\":\"" K256
    "\"}],\"service\":[{\"id\":\"#bsky\"},{\"id\":"
    "\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\",\"serviceEndpoint\":"
    "\"https://PDS.example:8443/path?x\"}]}";

static struct mj_keypair pair;
static char key[MJ_MULTIBASE_MAX], claimed[80];

static int parse(const char *json, struct mj_claims *c)
{
    MJ_AUTO_BUF text = {0};
    for (const char *at; (at = strstr(json, K256)); json = at + strlen(K256)) {
        mj_buf_put(&text, json, (size_t)(at - json));
        mj_buf_puts(&text, key);
    }
    mj_buf_puts(&text, json);
    return mj_identity_parse(mj_buf_span(&text), mj_str(DID), c);
}

static int setup(void **state)
{
    (void)state;
    mj_keypair_derive(MJ_KEY_K256, MJ_SPAN("identity"), &pair);
    mj_key_multibase(MJ_KEY_K256, pair.point, key);
    snprintf(claimed, sizeof claimed, "did:key:%s", key);
    return 0;
}

static void documents(void **state)
{
    (void)state;
    struct mj_claims c;
    assert_int_equal(parse(whole, &c), 0);
    assert_string_equal(c.handle, "alice.example.com");
    assert_string_equal(c.pds, "https://PDS.example:8443");
    assert_string_equal(c.key, claimed);
    assert_int_equal(parse("{\"id\":\"" DID "\"}", &c), 0);
    assert_string_equal(c.handle, "");
    assert_string_equal(c.pds, "");
    assert_string_equal(c.key, "");
    assert_int_equal(parse("{\"id\":\"" OTHER "\"}", &c), MJ_EDID);
    assert_int_equal(parse("{}", &c), MJ_EDID);
    assert_int_equal(parse("[]", &c), MJ_ESYNTAX);
    assert_int_equal(parse("", &c), MJ_ESYNTAX);
    assert_int_equal(parse("{\"id\":\"" DID "\"} x", &c), MJ_ESYNTAX);
    /* A key of the older kind: a point without a codec. */
    MJ_AUTO_BUF legacy = {0};
    mj_buf_puts(&legacy,
                "{\"id\":\"" DID "\",\"verificationMethod\":[{\"id\":\"#atproto\",\"type\":"
                "\"EcdsaSecp256k1VerificationKey2019\",\"controller\":\"" DID
                "\",\"publicKeyMultibase\":\"z");
    mj_base58_encode(mj_span(pair.point, sizeof pair.point), &legacy);
    mj_buf_puts(&legacy, "\"}]}");
    assert_int_equal(parse(mj_buf_cstr(&legacy), &c), 0);
    assert_string_equal(c.key, claimed);
}

static void labelers(void **state)
{
    (void)state;
    struct mj_claims c;
    assert_int_equal(
        parse("{\"id\":\"" DID "\",\"verificationMethod\":[{\"id\":\"#atproto_label\",\"type\":"
              "\"Multikey\",\"controller\":\"" DID "\",\"publicKeyMultibase\":\"" K256
              "\"}],\"service\":[{\"id\":\"#atproto_labeler\",\"type\":\"AtprotoLabeler\","
              "\"serviceEndpoint\":\"https://labels.example\"}]}",
              &c),
        0);
    assert_string_equal(c.label_key, claimed);
    assert_string_equal(c.labeler, "https://labels.example");
    assert_string_equal(c.key, ""); /* the one is no substitute for the other */
    assert_string_equal(c.pds, "");
    assert_int_equal(parse(whole, &c), 0);
    assert_string_equal(c.label_key, "");
    assert_string_equal(c.labeler, "");
}

/* Whatever is of the wrong type or says nonsense is as good as not there. */
static void odd_documents(void **state)
{
    (void)state;
    static const char *const tails[] = {
        "\"alsoKnownAs\":\"at://a.example.com\"",
        "\"alsoKnownAs\":{}",
        "\"alsoKnownAs\":[[],{}]",
        "\"alsoKnownAs\":[\"at://\\u0000\",\"at://a\",\"at://did:plc:x\"]",
        "\"verificationMethod\":[{\"id\":\"#atproto\",\"controller\":\"" OTHER
        "\",\"type\":\"Multikey\",\"publicKeyMultibase\":\"" K256 "\"}]",
        "\"verificationMethod\":[{\"id\":\"#atproto\",\"controller\":\"" DID
        "\",\"type\":\"Multikey\",\"publicKeyMultibase\":\"z111\"}]",
        "\"verificationMethod\":[{\"id\":\"#atproto\",\"controller\":\"" DID
        "\",\"type\":\"Other\",\"publicKeyMultibase\":\"" K256 "\"}]",
        "\"verificationMethod\":[{\"id\":\"#atproto\",\"controller\":\"" DID
        "\",\"type\":\"Multikey\",\"publicKeyMultibase\":5}]",
        "\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"Other\",\"serviceEndpoint\":"
        "\"https://x.example\"}]",
        "\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\","
        "\"serviceEndpoint\":\"wss://x.example\"}]",
        "\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\","
        "\"serviceEndpoint\":\"https://user@x.example\"}]",
        "\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\","
        "\"serviceEndpoint\":{\"uri\":\"https://x.example\"}}]",
        "\"service\":[5,null,[]]"};
    for (size_t i = 0; i < MJ_COUNT(tails); i++) {
        struct mj_claims c;
        MJ_AUTO_BUF json = {0};
        mj_buf_printf(&json, "{\"id\":\"" DID "\",%s}", tails[i]);
        assert_int_equal(parse(mj_buf_cstr(&json), &c), 0);
        if (*c.handle || *c.key || *c.pds)
            fail_msg("%s: %s %s %s", tails[i], c.handle, c.key, c.pds);
    }
}

static void urls(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {DID, "https://plc.example/" DID},
        {"did:web:example.com", "https://example.com/.well-known/did.json"},
        {"did:web:localhost%3A2583", "http://localhost:2583/.well-known/did.json"},
        {"did:web:localhost", "http://localhost:80/.well-known/did.json"},
        {"did:plc:AAAAAAAAAAAAAAAAAAAAAAAA", NULL},
        {"did:plc:aaaaaaaaaaaaaaaaaaaaaaa", NULL},
        {"did:plc:aaaaaaaaaaaaaaaaaaaaaaa1", NULL},
        {"did:web:example.com:path", NULL},
        {"did:web:example.com%3A8080", NULL},
        {"did:web:localhost%3A", NULL},
        {"did:web:localhost%3A0", NULL},
        {"did:web:localhost%3A-1", NULL},
        {"did:web:localhost%3A99999", NULL},
        {"did:web:localhost.example%2F", NULL},
        {"did:web:127.0.0.1", NULL},
        {"did:web:host.internal", NULL},
        {"did:web:com", NULL},
        {"did:key:zQ3sh", NULL},
        {"did:plc:", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF url = {0};
        int err = mj_identity_url(mj_str(cases[i][0]), "https://plc.example/", &url);
        if (err ? cases[i][1] != NULL : !cases[i][1] || strcmp(mj_buf_cstr(&url), cases[i][1]) != 0)
            fail_msg("%s leads to %s", cases[i][0], mj_buf_cstr(&url));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(documents), cmocka_unit_test(labelers),
                                       cmocka_unit_test(odd_documents), cmocka_unit_test(urls)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
