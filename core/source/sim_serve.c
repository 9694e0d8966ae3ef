/* Documents about the people of the simulated network, as a PLC directory and a PDS serve them. */
#include "base/err.h"
#include "base/http.h"
#include "source/sim_world.h"

int mj_simulate_did_document(struct mj_simulate *s, struct mj_span did, struct mj_buf *out)
{
    int64_t i = mj__sim_find_did(s, did);
    if (i < 0)
        return MJ_ENOENT;
    const struct mj_keypair *key = mj__sim_key(s, (uint32_t)i);
    const struct mj_sim_account *a = &s->accounts[i];
    char multibase[MJ_MULTIBASE_MAX];
    mj_key_multibase(key->type, key->point, multibase);
    mj_buf_printf(out,
                  "{\"@context\":[\"https://www.w3.org/ns/did/v1\","
                  "\"https://w3id.org/security/multikey/v1\","
                  "\"https://w3id.org/security/suites/%s\"],"
                  "\"id\":\"%s\",\"alsoKnownAs\":[\"at://%s\"],"
                  "\"verificationMethod\":[{\"id\":\"%s#atproto\",\"type\":\"Multikey\","
                  "\"controller\":\"%s\",\"publicKeyMultibase\":\"%s\"}],"
                  "\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\","
                  "\"serviceEndpoint\":",
                  key->type == MJ_KEY_P256 ? "ecdsa-2019/v1" : "secp256k1-2019/v1", a->did,
                  a->handle, a->did, a->did, multibase);
    mj_buf_put_json(out, mj_str(s->pds_url));
    mj_buf_puts(out, "}]}");
    return 0;
}

int mj_simulate_resolve_handle(struct mj_simulate *s, struct mj_span handle, struct mj_buf *out)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->accounts[i].status != MJ_SIM_DELETED && mj_span_is(handle, s->accounts[i].handle)) {
            mj_buf_puts(out, s->accounts[i].did);
            return 0;
        }
    return MJ_ENOENT;
}

int mj_simulate_repo(struct mj_simulate *s, struct mj_span did, struct mj_buf *out,
                     const char **status)
{
    int64_t i = mj__sim_find_did(s, did);
    if (i < 0 || s->accounts[i].status == MJ_SIM_DELETED)
        return MJ_ENOENT;
    if (s->accounts[i].status != MJ_SIM_ACTIVE) {
        *status = s->accounts[i].status == MJ_SIM_TAKENDOWN ? "takendown" : "deactivated";
        return MJ_ECLOSED;
    }
    mj_sim_repo_export(mj__sim_repo(s, (uint32_t)i), out);
    return 0;
}

/* The decoded value of a query parameter; false without it. */
static bool parameter(struct mj_span query, const char *name, struct mj_buf *out)
{
    struct mj_span key, value;
    while (mj_query_next(&query, &key, &value))
        if (mj_span_is(key, name))
            return mj_query_decode(value, out) == 0;
    return false;
}

static int fail(struct mj_buf *body, int status, const char *error, const char *message)
{
    body->len = 0;
    mj_buf_printf(body, "{\"error\":\"%s\",\"message\":\"%s\"}", error, message);
    return status;
}

static int get_repo(struct mj_simulate *s, struct mj_span query, struct mj_buf *body,
                    const char **type)
{
    MJ_AUTO_BUF did = {0};
    const char *status;
    if (!parameter(query, "did", &did))
        return fail(body, 400, "InvalidRequest", "did is missing");
    int r = mj_simulate_repo(s, mj_buf_span(&did), body, &status);
    if (r == MJ_ECLOSED)
        return strcmp(status, "takendown") == 0
                   ? fail(body, 400, "RepoTakendown", "the account is taken down")
                   : fail(body, 400, "RepoDeactivated", "the account is deactivated");
    if (r)
        return fail(body, 400, "RepoNotFound", "no such repository");
    *type = "application/vnd.ipld.car";
    return 200;
}

static int resolve_handle(struct mj_simulate *s, struct mj_span query, struct mj_buf *body)
{
    MJ_AUTO_BUF handle = {0}, did = {0};
    if (!parameter(query, "handle", &handle))
        return fail(body, 400, "InvalidRequest", "handle is missing");
    if (mj_simulate_resolve_handle(s, mj_buf_span(&handle), &did))
        return fail(body, 400, "InvalidRequest", "unable to resolve handle");
    mj_buf_printf(body, "{\"did\":\"%s\"}", mj_buf_cstr(&did));
    return 200;
}

int mj_simulate_get(void *ctx, struct mj_span path, struct mj_span query, struct mj_buf *body,
                    const char **type)
{
    struct mj_simulate *s = ctx;
    if (mj_span_is(path, "/xrpc/com.atproto.sync.getRepo"))
        return get_repo(s, query, body, type);
    if (mj_span_is(path, "/xrpc/com.atproto.identity.resolveHandle"))
        return resolve_handle(s, query, body);
    MJ_AUTO_BUF did = {0};
    if (path.len && !mj_query_decode(mj_span(path.ptr + 1, path.len - 1), &did) &&
        mj_simulate_did_document(s, mj_buf_span(&did), body) == 0) {
        *type = "application/did+ld+json";
        return 200;
    }
    return fail(body, 404, "NotFound", "not registered");
}
