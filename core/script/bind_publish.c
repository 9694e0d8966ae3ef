/* What scripts publish about the DIDs they serve: feeds, labelers, keys. Several scripts may do so
 * for one host, whose DID document and list of feeds are then put together from all of them.
 *
 *   script A   did:web:example.com  feed …/cats   #bsky_fg ──┐
 *   script B   did:web:example.com  feed …/dogs   #bsky_fg ──┼─▶ /.well-known/did.json
 *   script C   did:web:example.com  #atproto_labeler, key ───┘   describeFeedGenerator
 *
 * A script's own route for one of these paths goes first. */
#include <stdio.h>

#include "atproto/syntax.h"
#include "base/err.h"
#include "base/http.h"
#include "base/route.h"
#include "script/bind.h"
#include "script/publish.h"
#include "script/scripts.h"

#define PUBLISHED_MAX 1000 /* of a script */

enum kind { FEED, SERVICE, KEY };

static const char *const kind_names[] = {"feed", "service", "key", NULL};

struct mj_published {
    struct mj_published *next;
    enum kind kind;
    char *did;  /* owned, like these: */
    char *name; /* a feed's address, or the fragment of a service or key */
    char *type; /* of a service; "" */
    char *text; /* a service's address, a key's multibase; "" */
};

static const char *const documents[] = {"GET /.well-known/did.json",
                                        "GET /xrpc/app.bsky.feed.describeFeedGenerator"};

/* ---- publishing ---- */

static bool same(const struct mj_published *a, const struct mj_published *b)
{
    return a->kind == b->kind && strcmp(a->did, b->did) == 0 && strcmp(a->name, b->name) == 0;
}

/* host.publish(did, "feed", uri); (did, "service", id, type, address); (did, "key", id, multibase)
 */
static int host_publish(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    const char *did = luaL_checkstring(L, 1);
    enum kind kind = (enum kind)luaL_checkoption(L, 2, NULL, kind_names);
    const char *name = luaL_checkstring(L, 3), *type = luaL_optstring(L, 4, "");
    const char *text = luaL_optstring(L, 5, "");
    size_t count = 0;
    if (kind == KEY) {
        text = type;
        type = "";
    }
    struct mj_published p = {
        .kind = kind, .did = (char *)(uintptr_t)did, .name = (char *)(uintptr_t)name};
    struct mj_published **last = &vm->published;
    for (; *last; last = &(*last)->next, count++)
        if (same(*last, &p))
            return 0;
    if (count == PUBLISHED_MAX)
        return luaL_error(L, "too many feeds: a script has at most %d", PUBLISHED_MAX);
    *last = mj_calloc(1, sizeof **last);
    **last = (struct mj_published){.kind = kind,
                                   .did = mj_strdup(did),
                                   .name = mj_strdup(name),
                                   .type = mj_strdup(type),
                                   .text = mj_strdup(text)};
    return 0;
}

void mj__published_free(struct mj_vm *vm)
{
    for (struct mj_published *p = vm->published, *next; p; p = next) {
        next = p->next;
        free(p->did);
        free(p->name);
        free(p->type);
        free(p->text);
        free(p);
    }
    vm->published = NULL;
}

/* ---- what a script is called ---- */

/* A host name, perhaps with a port, as "localhost:6008": the DID it has, appended. */
static bool web_did(struct mj_span host, struct mj_buf *did)
{
    mj_buf_puts(did, "did:web:");
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == ':')
            mj_buf_puts(did, "%3A");
        else if (word || c == '-' || c == '.')
            mj_buf_putc(did, (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c));
        else
            return false;
    }
    return host.len && host.len < 262 && mj_did_valid(mj_buf_span(did));
}

/* The host of a did:web, or "" for another DID and for one with a path. */
static void host_of(struct mj_span did, struct mj_buf *host)
{
    const struct mj_span front = MJ_SPAN("did:web:");
    if (!mj_span_starts(did, front))
        return;
    for (size_t i = front.len; i < did.len; i++) {
        if (did.ptr[i] == ':') {
            host->len = 0;
            return;
        }
        mj_buf_putc(host, (char)did.ptr[i]);
    }
    uint8_t *port = host->len ? memmem(host->ptr, host->len, "%3A", 3) : NULL;
    if (port) {
        *port = ':';
        memmove(port + 1, port + 3, host->len - (size_t)(port + 3 - host->ptr));
        host->len -= 2;
    }
}

/* NULL, or what is wrong. `where` is the address at which we are asked, and "" when that is not for
 * us to say. */
static const char *name_service(struct mj_span given, struct mj_span hostname, struct mj_buf *did,
                                struct mj_buf *where)
{
    MJ_AUTO_BUF own = {0};
    MJ_AUTO_BUF host = {0};
    if (hostname.ptr && !web_did(hostname, &own))
        return "'hostname' is the name under which the world finds you, such as "
               "\"feeds.example.com\", without https:// and without a path";
    if (given.ptr && !mj_did_valid(given))
        return "'did' is no DID";
    if (!given.ptr)
        given = mj_buf_span(&own);
    mj_buf_put(did, given.ptr, given.len);
    if (hostname.ptr && !mj_span_eq(given, mj_buf_span(&own)))
        return NULL; /* its document is somewhere else */
    host_of(given, &host);
    if (!host.len)
        return NULL;
    bool local = mj_span_starts(mj_buf_span(&host), MJ_SPAN("localhost")) &&
                 (host.len == 9 || host.ptr[9] == ':');
    mj_buf_puts(where, local ? "http://" : "https://");
    mj_buf_put(where, host.ptr, host.len);
    return NULL;
}

static struct mj_span text_or_null(lua_State *L, int index)
{
    struct mj_span s = {NULL, 0};
    if (lua_type(L, index) == LUA_TSTRING)
        s.ptr = (const uint8_t *)lua_tolstring(L, index, &s.len);
    return s;
}

/* host.service_did(what, did, hostname): the DID, and the address if the DID's document is ours to
 * serve; nil when there is neither. */
static int host_service_did(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    const char *what = luaL_checkstring(L, 1);
    for (int i = 2; i <= 3; i++)
        if (!lua_isnoneornil(L, i) && lua_type(L, i) != LUA_TSTRING)
            return luaL_error(L, "%s: '%s' is a text", what, i == 2 ? "did" : "hostname");
    struct mj_span did = text_or_null(L, 2), hostname = text_or_null(L, 3);
    if (!did.ptr && !hostname.ptr)
        return 0;
    vm->scratch.len = vm->value.len = 0;
    const char *wrong = name_service(did, hostname, &vm->scratch, &vm->value);
    if (wrong)
        return luaL_error(L, "%s: %s", what, wrong);
    lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
    if (!vm->value.len)
        return 1;
    lua_pushlstring(L, (const char *)vm->value.ptr, vm->value.len);
    return 2;
}

/* ---- answering ---- */

/* The DID a request is about, of those that publish what is asked for: the one of the host it was
 * sent to; else, behind a proxy that does not pass the host on, the only one. */
static const char *asked_did(const struct mj_scripts *s, bool document, struct mj_span host)
{
    const char *only = NULL, *first = NULL;
    bool several = false;
    MJ_AUTO_BUF wanted = {0};
    bool named = host.len && web_did(host, &wanted);
    for (size_t i = 0; i < s->count; i++)
        for (const struct mj_published *p = s->scripts[i]->vm->published; p; p = p->next) {
            if (p->kind != (document ? SERVICE : FEED))
                continue;
            if (named && mj_span_is(mj_buf_span(&wanted), p->did))
                return p->did;
            several |= only && strcmp(only, p->did) != 0;
            only = p->did;
            first = first ? first : p->did;
        }
    return !several ? only : document ? NULL : first;
}

static void put_pair(struct mj_buf *out, const char *name, const char *value)
{
    mj_buf_printf(out, "\"%s\":", name);
    mj_buf_put_json(out, mj_str(value));
}

/* Calls put() for each of that kind, once: scripts may publish the same. */
static void put_all(const struct mj_scripts *s, const char *did, enum kind kind, struct mj_buf *out,
                    void (*put)(const struct mj_published *p, struct mj_buf *out))
{
    const struct mj_published *done[PUBLISHED_MAX];
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        for (const struct mj_published *p = s->scripts[i]->vm->published; p; p = p->next) {
            size_t k = 0;
            if (p->kind != kind || strcmp(p->did, did) != 0)
                continue;
            while (k < n && !same(done[k], p))
                k++;
            if (k < n || n == PUBLISHED_MAX)
                continue;
            mj_buf_puts(out, n ? "," : "");
            put(p, out);
            done[n++] = p;
        }
}

static void put_feed(const struct mj_published *p, struct mj_buf *out)
{
    mj_buf_putc(out, '{');
    put_pair(out, "uri", p->name);
    mj_buf_putc(out, '}');
}

static void put_service(const struct mj_published *p, struct mj_buf *out)
{
    mj_buf_putc(out, '{');
    put_pair(out, "id", p->name);
    mj_buf_putc(out, ',');
    put_pair(out, "type", p->type);
    mj_buf_putc(out, ',');
    put_pair(out, "serviceEndpoint", p->text);
    mj_buf_putc(out, '}');
}

static void put_key(const struct mj_published *p, struct mj_buf *out)
{
    MJ_AUTO_BUF id = {0};
    mj_buf_printf(&id, "%s%s", p->did, p->name);
    mj_buf_putc(out, '{');
    put_pair(out, "id", mj_buf_cstr(&id));
    mj_buf_puts(out, ",\"type\":\"Multikey\",");
    put_pair(out, "controller", p->did);
    mj_buf_putc(out, ',');
    put_pair(out, "publicKeyMultibase", p->text);
    mj_buf_putc(out, '}');
}

static void put_document(const struct mj_scripts *s, const char *did, struct mj_buf *out)
{
    mj_buf_puts(out, "{\"@context\":[\"https://www.w3.org/ns/did/v1\","
                     "\"https://w3id.org/security/multikey/v1\"],");
    put_pair(out, "id", did);
    mj_buf_puts(out, ",\"verificationMethod\":[");
    put_all(s, did, KEY, out, put_key);
    mj_buf_puts(out, "],\"service\":[");
    put_all(s, did, SERVICE, out, put_service);
    mj_buf_puts(out, "]}");
}

static struct mj_span header(struct mj_span lines, const char *name)
{
    size_t n = strlen(name);
    while (lines.len) {
        const uint8_t *end = memchr(lines.ptr, '\n', lines.len);
        size_t len = end ? (size_t)(end - lines.ptr) + 1 : lines.len, used = len;
        struct mj_span line = mj_span(lines.ptr, len);
        while (line.len && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r'))
            line.len--;
        if (line.len > n + 1 && memcmp(line.ptr, name, n) == 0 && line.ptr[n] == ':') {
            size_t at = n + 1;
            while (at < line.len && line.ptr[at] == ' ')
                at++;
            return mj_span(line.ptr + at, line.len - at);
        }
        lines = mj_span(lines.ptr + used, lines.len - used);
    }
    return mj_span(NULL, 0);
}

size_t mj__published_routes(const struct mj_scripts *s, const char *out[MJ_PUBLISHED_ROUTES])
{
    bool document = false, feeds = false;
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        for (const struct mj_published *p = s->scripts[i]->vm->published; p; p = p->next) {
            document |= p->kind == SERVICE;
            feeds |= p->kind == FEED;
        }
    if (document)
        out[n++] = documents[0];
    if (feeds)
        out[n++] = documents[1];
    return n;
}

bool mj__published_answer(const struct mj_scripts *s, const struct mj_route_request *q, size_t best,
                          struct mj_buf *out)
{
    for (size_t i = 0; i < MJ_COUNT(documents); i++) {
        struct mj_route route;
        if (mj_route_parse(mj_str(documents[i]), &route, NULL) ||
            mj_route_fit(&route, q->path) <= best || !mj_route_takes(&route, q->method))
            continue;
        const char *did = asked_did(s, i == 0, header(q->headers, "host"));
        if (!did)
            return false;
        if (i == 0) {
            put_document(s, did, out);
            return true;
        }
        mj_buf_putc(out, '{');
        put_pair(out, "did", did);
        mj_buf_puts(out, ",\"feeds\":[");
        put_all(s, did, FEED, out, put_feed);
        mj_buf_puts(out, "]}");
        return true;
    }
    return false;
}

void mj_bind_publish_host(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"publish", host_publish}, {"service_did", host_service_did}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
}
