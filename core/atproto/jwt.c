#include "atproto/jwt.h"

#include "atproto/syntax.h"
#include "base/err.h"
#include "base/json.h"

struct reading {
    struct mj_jwt *j; /* borrowed */
    bool has_alg;
};

static int digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Base64url without padding and without spare bits, so that there is one text for the bytes. */
static bool decode(struct mj_span in, struct mj_buf *out)
{
    uint32_t bits = 0;
    unsigned n = 0;
    for (size_t i = 0; i < in.len; i++) {
        int d = digit(in.ptr[i]);
        if (d < 0)
            return false;
        bits = (bits << 6 | (uint32_t)d) & 0xffff;
        n += 6;
        if (n >= 8) {
            n -= 8;
            mj_buf_putc(out, (char)(bits >> n));
        }
    }
    return n < 6 && (bits & ((1u << n) - 1)) == 0;
}

/* The part before the next dot, which is taken off. */
static bool take_part(struct mj_span *rest, struct mj_span *part)
{
    const uint8_t *dot = rest->len ? memchr(rest->ptr, '.', rest->len) : NULL;
    if (!dot)
        return false;
    *part = mj_span(rest->ptr, (size_t)(dot - rest->ptr));
    *rest = mj_span(dot + 1, rest->len - part->len - 1);
    return true;
}

/* Seconds; what is behind the point does not matter to anybody. */
static int read_time(int type, struct mj_span raw, int64_t *out)
{
    const uint8_t *point = type == MJ_JSON_NUMBER ? memchr(raw.ptr, '.', raw.len) : NULL;
    if (point && !memchr(raw.ptr, 'e', raw.len) && !memchr(raw.ptr, 'E', raw.len))
        raw.len = (size_t)(point - raw.ptr);
    if (type != MJ_JSON_NUMBER || mj_span_i64(raw, out))
        return MJ_ESYNTAX;
    return *out >= 0 ? 0 : MJ_ESYNTAX;
}

static int read_text(int type, struct mj_span raw, char *out, size_t cap)
{
    MJ_AUTO_BUF text = {0};
    if (type != MJ_JSON_STRING)
        return MJ_ESYNTAX;
    mj_json_text(raw, &text);
    if (text.len >= cap || (text.len && memchr(text.ptr, 0, text.len)))
        return MJ_ESYNTAX;
    memcpy(out, mj_buf_cstr(&text), text.len + 1);
    return 0;
}

/* Calls `fn` with each member of the base64url JSON object. Of a name that comes again, the last
 * counts, as everywhere. */
static int each_member(struct mj_span part, struct reading *r,
                       int (*fn)(struct reading *r, struct mj_span name, int type,
                                 struct mj_span raw))
{
    MJ_AUTO_BUF json = {0};
    MJ_AUTO_BUF name = {0};
    struct mj_span rest, object, key, raw;
    int type, err = 0;
    if (!decode(part, &json))
        return MJ_ESYNTAX;
    rest = mj_buf_span(&json);
    if (mj_json_take(&rest, &object) != MJ_JSON_OBJECT || rest.len)
        return MJ_ESYNTAX;
    rest = mj_json_inside(object);
    while (!err && (type = mj_json_member(&rest, &key, &raw)) >= 0) {
        name.len = 0;
        mj_json_text(key, &name);
        err = fn(r, mj_buf_span(&name), type, raw);
    }
    return err;
}

static int header_member(struct reading *r, struct mj_span name, int type, struct mj_span raw)
{
    char text[32];
    if (mj_span_is(name, "alg")) {
        int err = read_text(type, raw, text, sizeof text);
        if (err)
            return err;
        r->has_alg = true;
        if (strcmp(text, "ES256K") != 0 && strcmp(text, "ES256") != 0)
            return MJ_EKEY;
        r->j->type = text[5] ? MJ_KEY_K256 : MJ_KEY_P256;
    } else if (mj_span_is(name, "typ")) {
        /* Access and refresh tokens must not pass for this one. */
        if (read_text(type, raw, text, sizeof text) || strcasecmp(text, "JWT") != 0)
            return MJ_ETYPE;
    } else if (mj_span_is(name, "crit")) {
        return MJ_ETYPE; /* names extensions that have to be understood */
    }
    return 0;
}

static int claim(struct reading *r, struct mj_span name, int type, struct mj_span raw)
{
    struct mj_jwt *j = r->j;
    if (mj_span_is(name, "iss"))
        return read_text(type, raw, j->iss, sizeof j->iss);
    if (mj_span_is(name, "aud"))
        return read_text(type, raw, j->aud, sizeof j->aud);
    if (mj_span_is(name, "lxm"))
        return read_text(type, raw, j->lxm, sizeof j->lxm);
    if (mj_span_is(name, "exp"))
        return read_time(type, raw, &j->exp);
    if (mj_span_is(name, "nbf"))
        return read_time(type, raw, &j->nbf);
    if (mj_span_is(name, "iat"))
        return read_time(type, raw, &j->iat);
    return 0;
}

static int read_parts(struct mj_span token, struct mj_jwt *j)
{
    struct mj_span rest = token, header, claims;
    MJ_AUTO_BUF sig = {0};
    if (!take_part(&rest, &header) || !take_part(&rest, &claims) || !decode(rest, &sig) ||
        sig.len != MJ_SIG_LEN)
        return MJ_ESYNTAX;
    memcpy(j->sig, sig.ptr, MJ_SIG_LEN);
    j->signed_part = mj_span(token.ptr, header.len + 1 + claims.len);
    struct reading r = {.j = j};
    int err = each_member(header, &r, header_member);
    if (err || !r.has_alg)
        return err ? err : MJ_ESYNTAX;
    err = each_member(claims, &r, claim);
    return err ? err : *j->iss && *j->aud && j->exp ? 0 : MJ_ESYNTAX;
}

int mj_jwt_parse(struct mj_span token, struct mj_jwt *out)
{
    memset(out, 0, sizeof *out);
    if (token.len > MJ_JWT_MAX)
        return MJ_ELIMIT;
    int err = read_parts(token, out);
    if (err)
        return err;
    char *service = strchr(out->iss, '#');
    if (service)
        *service = '\0';
    return mj_did_valid(mj_str(out->iss)) ? 0 : MJ_EDID;
}

struct mj_jwt_fault mj_jwt_parse_fault(int err)
{
    switch (err) {
    case MJ_EKEY:
        return (struct mj_jwt_fault){"BadJwtSignature", "the token is signed with neither ES256K "
                                                        "nor ES256"};
    case MJ_ETYPE:
        return (struct mj_jwt_fault){"BadJwtType", "the token is not one of service auth"};
    case MJ_EDID:
        return (struct mj_jwt_fault){"BadJwtIss", "'iss' is no DID"};
    case MJ_ELIMIT:
        return (struct mj_jwt_fault){"BadJwt", "the token is too long"};
    default:
        return (struct mj_jwt_fault){"BadJwt", "the token is malformed"};
    }
}

bool mj_jwt_check(const struct mj_jwt *j, const char *did, const char *service, const char *lxm,
                  int64_t now_s, struct mj_jwt_fault *fault)
{
    size_t n = strlen(did);
    bool ours = strncmp(j->aud, did, n) == 0 && (!j->aud[n] || strcmp(j->aud + n, service) == 0);
    if (j->exp < now_s - MJ_JWT_SKEW_S)
        *fault = (struct mj_jwt_fault){"JwtExpired", "the token has expired"};
    else if (j->nbf > now_s + MJ_JWT_SKEW_S || j->iat > now_s + MJ_JWT_SKEW_S)
        *fault = (struct mj_jwt_fault){"BadJwt", "the token is not valid yet"};
    else if (!ours)
        *fault = (struct mj_jwt_fault){"BadJwtAudience", "the token is for somebody else"};
    else if (strcmp(j->lxm, lxm) != 0)
        *fault = (struct mj_jwt_fault){"BadJwtLexiconMethod", "the token is for another method"};
    else
        return true;
    return false;
}

int mj_jwt_verify(const struct mj_jwt *j, const struct mj_pubkey *key)
{
    uint8_t sig[MJ_SIG_LEN];
    if (mj_pubkey_type(key) != j->type)
        return MJ_ESIG;
    memcpy(sig, j->sig, sizeof sig);
    mj_sig_lower(j->type, sig);
    return mj_pubkey_verify(key, j->signed_part, mj_span(sig, sizeof sig));
}
