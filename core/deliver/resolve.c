#include "deliver/resolve.h"

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metrics.h"
#include "deliver/dns.h"
#include "deliver/identity.h"

#define SLOTS     4096
#define WHO_MAX   2048 /* bytes of a DID; handles are shorter */
#define PLC       "https://plc.directory"
#define KEEP_US   INT64_C(3600000000)
#define FAILED_US INT64_C(60000000)

enum state { PENDING, FOUND, FAILED };

struct ask;

/* A step that is cached: "h" and a handle leads to a DID, "d" and a DID to what its document
 * claims. */
struct node {
    struct node *next;          /* in its slot */
    struct node *newer, *older; /* unless PENDING */
    struct mj_resolver *r;      /* borrowed */
    char *key;                  /* owned */
    enum state state;
    int64_t settled_us; /* monotonic, like this: */
    int64_t expires_us;
    struct ask *asks;              /* wait for it */
    bool passing;                  /* a failure that is ours, and tells nothing: not kept */
    char *error;                   /* owned; FAILED */
    char *did;                     /* owned; of a handle */
    char *handle, *pds, *key_text; /* owned, NULL when there is none; of a document */
    char *labeler, *label_key;     /* the same */
};

struct ask {
    struct ask *next; /* in a node's list */
    struct mj_resolver *r;
    mj_resolver_done_fn done;
    void *ctx;
    char *who;                /* owned; a handle is in lower case */
    char *did;                /* owned, once known */
    char *handle, *pds, *key; /* owned, once the document is read */
    char *labeler, *label_key;
    enum mj_resolve how;
    bool by_handle, waited;
};

struct mj_resolver {
    struct mj_http *http; /* borrowed */
    struct mj_dns *dns;   /* owned */
    struct mj_resolver_cfg cfg;
    char *plc; /* owned */
    struct node *slots[SLOTS];
    struct node *newest, *oldest;
    size_t entries, asks;
    bool attached, closing;
    struct mj_metric *cached, *found, *failed, *size;
};

static char *copy(const char *s) { return s && *s ? mj_strdup(s) : NULL; }

/* ---- nodes ---- */

static void unlink_node(struct node *n)
{
    struct mj_resolver *r = n->r;
    *(n->newer ? &n->newer->older : &r->newest) = n->older;
    *(n->older ? &n->older->newer : &r->oldest) = n->newer;
    n->newer = n->older = NULL;
}

static void link_newest(struct node *n)
{
    struct mj_resolver *r = n->r;
    n->older = r->newest;
    n->newer = NULL;
    *(n->older ? &n->older->newer : &r->oldest) = n;
    r->newest = n;
}

static struct node **slot_of(struct mj_resolver *r, const char *key)
{
    struct node **at = &r->slots[mj_hash(mj_str(key)) % SLOTS];
    while (*at && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    return at;
}

/* A node that is in no list of age. */
static void free_node(struct node *n)
{
    *slot_of(n->r, n->key) = n->next;
    mj_metric_set(n->r->size, (int64_t)--n->r->entries);
    free(n->key);
    free(n->error);
    free(n->did);
    free(n->handle);
    free(n->pds);
    free(n->key_text);
    free(n->labeler);
    free(n->label_key);
    free(n);
}

static void advance(struct ask *a, struct node *n);

/* The step is done, one way or the other: whoever waits goes on. `error` NULL: it was found. */
static void settle(struct node *n, const char *error)
{
    struct mj_resolver *r = n->r;
    struct ask *list = n->asks;
    n->asks = NULL;
    n->state = error ? FAILED : FOUND;
    n->error = error ? mj_strdup(error) : NULL;
    int64_t keep = !error ? r->cfg.keep_us : n->passing ? 0 : r->cfg.keep_failed_us;
    n->settled_us = mj_mono_us();
    n->expires_us = n->settled_us + keep;
    link_newest(n);
    while (list) { /* nothing that these start makes the node go: see trim() */
        struct ask *a = list;
        list = a->next;
        advance(a, n);
    }
}

/* Makes room for what an ask may add. Only called when no step is being settled. */
static void trim(struct mj_resolver *r)
{
    while (r->entries > r->cfg.max_entries && r->oldest) {
        struct node *old = r->oldest;
        unlink_node(old);
        free_node(old);
    }
}

/* ---- a handle's DID ---- */

static void set_did(struct node *n, struct mj_span did)
{
    free(n->did);
    n->did = mj_span_dup(did);
}

static void on_well_known(void *ctx, const struct mj_fetched *a)
{
    struct node *n = ctx;
    struct mj_span s = a->body;
    while (s.len && (s.ptr[s.len - 1] == '\n' || s.ptr[s.len - 1] == '\r' ||
                     s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = mj_span(s.ptr + 1, s.len - 1);
    n->passing = a->unsent;
    if (a->error) {
        MJ_AUTO_BUF text = {0};
        mj_buf_printf(&text, "no _atproto record in DNS; %s", a->error);
        settle(n, mj_buf_cstr(&text));
    } else if (a->status / 100 != 2 || s.len > WHO_MAX || !mj_did_valid(s)) {
        settle(n, "neither DNS nor its host name a DID");
    } else {
        set_did(n, s);
        settle(n, NULL);
    }
}

static void fetch(struct mj_resolver *r, const char *url, bool trusted, size_t max,
                  mj_http_done_fn done, void *ctx)
{
    struct mj_fetch f = {.script = "",
                         .method = MJ_SPAN("GET"),
                         .url = mj_str(url),
                         .timeout_us = r->cfg.timeout_us,
                         .max_bytes = max};
    mj_http_send(r->http, &f, trusted, done, ctx);
}

static void on_txt(void *ctx, const char *error, const struct mj_span *texts, size_t count)
{
    struct node *n = ctx;
    const struct mj_span front = MJ_SPAN("did=");
    (void)error; /* then HTTPS may know */
    for (size_t i = 0; i < count; i++) {
        if (!mj_span_starts(texts[i], front))
            continue;
        struct mj_span did = mj_span(texts[i].ptr + front.len, texts[i].len - front.len);
        if (n->did && !mj_span_is(did, n->did)) {
            settle(n, "its DNS names several DIDs");
            return;
        }
        if (did.len <= WHO_MAX && mj_did_valid(did))
            set_did(n, did);
    }
    if (n->did) {
        settle(n, NULL);
        return;
    }
    if (n->r->closing) {
        settle(n, "Moonjet is stopping");
        return;
    }
    MJ_AUTO_BUF url = {0};
    mj_buf_printf(&url, "https://%s/.well-known/atproto-did", n->key + 1);
    fetch(n->r, mj_buf_cstr(&url), false, WHO_MAX + 64, on_well_known, n);
}

static void start_handle(struct node *n)
{
    struct mj_resolver *r = n->r;
    MJ_AUTO_BUF name = {0};
    if (!mj_handle_public(mj_str(n->key + 1))) {
        settle(n, "its top-level domain is not of the public internet");
        return;
    }
    if (!r->attached)
        mj_dns_attach(r->dns);
    r->attached = true;
    mj_buf_printf(&name, "_atproto.%s", n->key + 1);
    mj_dns_txt(r->dns, mj_buf_cstr(&name), on_txt, n);
}

/* ---- a DID's document ---- */

static void on_document(void *ctx, const struct mj_fetched *a)
{
    struct node *n = ctx;
    struct mj_claims c;
    n->passing = a->unsent;
    if (a->error) {
        settle(n, a->error);
        return;
    }
    if (a->status == 404 || a->status == 410) {
        settle(n, a->status == 404 ? "there is no such DID" : "the DID has been given up");
        return;
    }
    if (a->status != 200) {
        MJ_AUTO_BUF text = {0};
        mj_buf_printf(&text, "asked for its document, the server answers %d", a->status);
        settle(n, mj_buf_cstr(&text));
        return;
    }
    int err = mj_identity_parse(a->body, mj_str(n->key + 1), &c);
    if (err) {
        settle(n, err == MJ_EDID ? "its document is about another DID"
                                 : "its document is no DID document");
        return;
    }
    n->handle = copy(c.handle);
    n->pds = copy(c.pds);
    n->key_text = copy(c.key);
    n->labeler = copy(c.labeler);
    n->label_key = copy(c.label_key);
    settle(n, NULL);
}

static void start_document(struct node *n)
{
    MJ_AUTO_BUF url = {0};
    struct mj_span did = mj_str(n->key + 1);
    if (mj_identity_url(did, n->r->plc, &url)) {
        settle(n, "only did:plc and did:web with a public host can be looked up");
        return;
    }
    bool plc = mj_span_starts(did, MJ_SPAN("did:plc:"));
    fetch(n->r, mj_buf_cstr(&url), plc, MJ_DOCUMENT_MAX, on_document, n);
}

/* ---- asks ---- */

/* Waits for the step; goes on at once when its result is cached. */
static void need(struct ask *a, char kind, const char *what)
{
    struct mj_resolver *r = a->r;
    MJ_AUTO_BUF key = {0};
    mj_buf_printf(&key, "%c%s", kind, what);
    struct node **at = slot_of(r, mj_buf_cstr(&key)), *n = *at;
    int64_t now = mj_mono_us();
    bool stale = n && (n->expires_us <= now || (a->how == MJ_RESOLVE_ANEW && kind == 'd' &&
                                                n->settled_us + r->cfg.keep_failed_us <= now));
    if (n && n->state != PENDING && stale) {
        unlink_node(n);
        free_node(n);
        n = NULL;
        at = slot_of(r, mj_buf_cstr(&key));
    }
    if (n && n->state != PENDING) {
        unlink_node(n);
        link_newest(n);
        advance(a, n);
        return;
    }
    a->waited = true;
    if (n) {
        a->next = n->asks;
        n->asks = a;
        return;
    }
    n = mj_calloc(1, sizeof *n);
    n->r = r;
    n->key = mj_strdup(mj_buf_cstr(&key));
    n->asks = a;
    a->next = NULL;
    *at = n;
    mj_metric_set(r->size, (int64_t)++r->entries);
    if (kind == 'h')
        start_handle(n);
    else
        start_document(n);
}

static void answer(struct ask *a, const char *error)
{
    struct mj_resolver *r = a->r;
    MJ_AUTO_BUF text = {0};
    if (error)
        mj_buf_printf(&text, "%.300s: %s", a->who, error);
    struct mj_identity id = {.error = error ? mj_buf_cstr(&text) : NULL,
                             .did = a->did,
                             .handle = a->handle,
                             .pds = a->pds,
                             .key = a->key,
                             .labeler = a->labeler,
                             .label_key = a->label_key};
    mj_metric_add(error ? r->failed : a->waited ? r->found : r->cached, 1);
    r->asks--;
    a->done(a->ctx, &id);
    free(a->who);
    free(a->did);
    free(a->handle);
    free(a->pds);
    free(a->key);
    free(a->labeler);
    free(a->label_key);
    free(a);
}

static void take_claims(struct ask *a, const struct node *n)
{
    a->handle = copy(n->handle);
    a->pds = copy(n->pds);
    a->key = copy(n->key_text);
    a->labeler = copy(n->labeler);
    a->label_key = copy(n->label_key);
}

/* The step the ask was waiting for has a result. The node may be gone when this returns. */
static void advance(struct ask *a, struct node *n)
{
    bool of_handle = n->key[0] == 'h';
    if (!a->by_handle && of_handle) { /* the last step: does the handle lead back? */
        if (n->state == FAILED || strcmp(n->did, a->did) != 0) {
            free(a->handle);
            a->handle = NULL;
        }
        answer(a, NULL);
    } else if (n->state == FAILED) {
        answer(a, n->error);
    } else if (of_handle) {
        a->did = mj_strdup(n->did);
        need(a, 'd', a->did);
    } else if (a->by_handle) {
        take_claims(a, n);
        if (a->handle && strcmp(a->handle, a->who) == 0) {
            answer(a, NULL);
            return;
        }
        MJ_AUTO_BUF text = {0};
        mj_buf_printf(&text, "leads to %s, which claims %s", a->did,
                      a->handle ? a->handle : "no handle");
        answer(a, mj_buf_cstr(&text));
    } else {
        take_claims(a, n);
        if (a->how != MJ_RESOLVE_WHO) { /* what is not checked is not told */
            free(a->handle);
            a->handle = NULL;
        }
        if (a->handle)
            need(a, 'h', a->handle);
        else
            answer(a, NULL);
    }
}

static void start_ask(void *ctx)
{
    struct ask *a = ctx;
    struct mj_span who = mj_str(a->who);
    trim(a->r);
    if (a->r->asks++ >= a->r->cfg.max_asks) {
        answer(a, "too many look-ups are waiting");
        return;
    }
    if (mj_span_starts(who, MJ_SPAN("did:")) && who.len <= WHO_MAX && mj_did_valid(who)) {
        a->did = mj_strdup(a->who);
        need(a, 'd', a->did);
        return;
    }
    for (char *p = a->who; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p |= 0x20;
    a->by_handle = true;
    if (!mj_handle_valid(who))
        answer(a, "neither a DID nor a handle");
    else
        need(a, 'h', a->who);
}

void mj_resolver_ask(struct mj_resolver *r, struct mj_span who, enum mj_resolve how,
                     mj_resolver_done_fn done, void *ctx)
{
    struct ask *a = mj_calloc(1, sizeof *a);
    a->r = r;
    a->how = how;
    a->done = done;
    a->ctx = ctx;
    if (who.len > WHO_MAX + 1)
        who.len = WHO_MAX + 1; /* which is too long for both */
    a->who = who.len && memchr(who.ptr, 0, who.len) ? mj_strdup("?") : mj_span_dup(who);
    mj_http_run(r->http, start_ask, a);
}

int mj_resolver_new(struct mj_http *http, const struct mj_resolver_cfg *cfg,
                    struct mj_resolver **out)
{
    static const char family[] = "moonjet_resolve_total",
                      help[] = "DIDs and handles that scripts asked about.";
    struct mj_resolver *r = mj_calloc(1, sizeof *r);
    r->http = http;
    r->cfg = *cfg;
    r->plc = mj_strdup(cfg->plc && *cfg->plc ? cfg->plc : PLC);
    if (!r->cfg.keep_us)
        r->cfg.keep_us = KEEP_US;
    if (!r->cfg.keep_failed_us)
        r->cfg.keep_failed_us = FAILED_US;
    if (!r->cfg.timeout_us)
        r->cfg.timeout_us = 5000000;
    if (!r->cfg.max_entries)
        r->cfg.max_entries = 10000;
    if (!r->cfg.max_asks)
        r->cfg.max_asks = 10000;
    r->cached = mj_metric(family, MJ_COUNTER, help, "result=\"cached\"");
    r->found = mj_metric(family, MJ_COUNTER, help, "result=\"found\"");
    r->failed = mj_metric(family, MJ_COUNTER, help, "result=\"failed\"");
    r->size = mj_metric("moonjet_resolve_entries", MJ_GAUGE,
                        "DIDs and handles whose answers are kept.", NULL);
    int err = mj_dns_new(http, cfg->dns, &r->dns);
    if (err) {
        mj_log(MJ_LOG_ERROR, "resolve", "%s%s",
               err == MJ_ESYNTAX ? cfg->dns : "the system's name servers cannot be read",
               err == MJ_ESYNTAX ? " is no list of name servers such as 127.0.0.1:53" : "");
        free(r->plc);
        free(r);
        return err;
    }
    *out = r;
    return 0;
}

void mj_resolver_free(struct mj_resolver *r)
{
    if (!r)
        return;
    r->closing = true;
    mj_dns_free(r->dns); /* which ends the questions */
    for (struct node *n; (n = r->oldest);) {
        unlink_node(n);
        free_node(n);
    }
    free(r->plc);
    free(r);
}
