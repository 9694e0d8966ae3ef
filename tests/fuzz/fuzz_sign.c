/* Secrets and headers of webhooks, by line: a secret that is read signs what it verifies; headers
 * of any bytes are judged, never believed. */
#include "base/err.h"
#include "deliver/sign.h"

static struct mj_span line(struct mj_span *rest)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    struct mj_span out = mj_span(rest->ptr, end ? (size_t)(end - rest->ptr) : rest->len);
    size_t used = out.len + (end != NULL);
    *rest = mj_span(rest->ptr + used, rest->len - used);
    return out;
}

static void round_trip(const struct mj_sign_key *key, struct mj_span body)
{
    MJ_AUTO_BUF signatures = {0};
    MJ_AUTO_BUF why = {0};
    const struct mj_signed what = {MJ_SPAN("evt_1"), 7, body};
    if (mj_sign(&key, 1, &what, &signatures))
        abort();
    const struct mj_sign_headers headers = {what.id, MJ_SPAN("7"), mj_buf_span(&signatures)};
    if (mj_sign_verify(&key, 1, &headers, body, 7, 0, NULL, &why))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mj_span rest = mj_span(data, n), secret = line(&rest), id = line(&rest);
    struct mj_span timestamp = line(&rest), signature = line(&rest), hub = line(&rest);
    struct mj_sign_key *key, *fixed;
    MJ_AUTO_BUF error = {0};
    if (!mj_sign_key_parse(secret, &key, &error) && mj_sign_key_signs(key))
        round_trip(key, rest);
    else if (!key && !error.len)
        abort();
    const struct mj_sign_headers headers = {id, timestamp, signature};
    if (mj_sign_key_parse(MJ_SPAN("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &fixed, &error))
        abort();
    const struct mj_sign_key *const keys[] = {fixed, key};
    error.len = 0;
    if (mj_sign_verify(keys, key ? 2 : 1, &headers, rest, 1614265330, 300, NULL, &error) &&
        !error.len)
        abort();
    mj_sign_github_verify(MJ_SPAN("secret"), hub, rest, &error);
    mj_sign_key_free(key);
    mj_sign_key_free(fixed);
    return 0;
}
