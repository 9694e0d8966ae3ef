/* One request of a webhook: what is posted, and what becomes of it. */
#include <openssl/evp.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "deliver/hook_answer.h"
#include "deliver/hook_internal.h"
#include "script/secrets.h"

#define ANSWER_MAX    ((size_t)256 << 10)
#define FAILED_BYTES  64 /* of an answer, per event: it may name each of them, in its own layout */
#define EXCERPT       2048
#define PART_HIDDEN   10 /* characters of a part of a URL that may well be a token */
#define REFUSED_TIMES 20 /* in a row, and for that long: nobody wants it there */
#define REFUSED_US    INT64_C(3600000000)
#define QUARANTINE_US 1000000 /* between two looks whether the script may run again */
#define BATCH_ID      36      /* "bat_" and 32 hex digits */

/* ---- before ---- */

static const char *const ours[] = {"webhook-",        "moonjet-",    "x-hub-signature",
                                   "idempotency-key", "user-agent:", "host:"};

/* The script's header lines, but for Content-Type, which has a place of its own; refuses those that
 * would say something else than ours. */
static int add_headers(struct mj_hook *h, struct mj_buf *error)
{
    static const char type[] = "content-type:";
    for (const char *line = h->spec->headers; line && *line;) {
        const char *end = strstr(line, "\r\n");
        size_t len = end ? (size_t)(end - line) : strlen(line);
        for (size_t i = 0; i < MJ_COUNT(ours); i++)
            if (strncasecmp(line, ours[i], strlen(ours[i])) == 0) {
                mj_buf_printf(error, "the header %.*s is set by Moonjet", (int)strcspn(line, ":\r"),
                              line);
                return MJ_EINVAL;
            }
        if (strncasecmp(line, type, sizeof type - 1) == 0) {
            size_t blanks = sizeof type - 1 + strspn(line + sizeof type - 1, " \t");
            h->type.len = 0;
            mj_buf_put(&h->type, line + blanks, len - blanks);
        } else {
            mj_buf_put(&h->fixed, line, len);
            mj_buf_puts(&h->fixed, "\r\n");
        }
        line = end ? end + 2 : NULL;
    }
    return 0;
}

/* Values of the script's headers are often tokens, by themselves or behind a word: "Bearer …". */
static void hide_headers(struct mj_hook *h)
{
    struct mj_span rest = mj_buf_span(&h->fixed);
    while (rest.len) {
        const uint8_t *end = memchr(rest.ptr, '\r', rest.len);
        size_t len = end ? (size_t)(end - rest.ptr) : rest.len;
        const uint8_t *at = memchr(rest.ptr, ':', len);
        for (const uint8_t *stop = rest.ptr + len; at;) {
            for (at++; at < stop && *at == ' ';)
                at++;
            mj_secret_remember(&h->hidden, mj_span(at, (size_t)(stop - at)));
            at = at < stop ? memchr(at, ' ', (size_t)(stop - at)) : NULL;
        }
        len += end ? 2 : 0;
        rest = mj_span(rest.ptr + len, rest.len - len);
    }
}

/* What an answer may repeat, and a dead letter must not show. */
static void hide(struct mj_hook *h)
{
    const struct mj_hook_spec *s = h->spec;
    const char *path = strstr(s->url, "://");
    path = path ? path + 3 + strcspn(path + 3, "/?#") : s->url;
    for (size_t i = 0; !s->made_up && i < s->secret_count; i++)
        mj_secret_remember(&h->hidden, mj_str(s->secrets[i]));
    if (s->github_secret && !s->made_up)
        mj_secret_remember(&h->hidden, mj_str(s->github_secret));
    mj_secret_remember(&h->hidden, mj_str(path));
    mj_secret_remember(&h->hidden, mj_span(path, strcspn(path, "?#")));
    /* Parts by themselves, too: some write each slash as "\/". */
    for (size_t len; *path; path += len + (path[len] != '\0')) {
        len = strcspn(path, "/?#&=");
        if (len >= PART_HIDDEN)
            mj_secret_remember(&h->hidden, mj_span(path, len));
    }
    hide_headers(h);
}

int mj__hook_prepare(struct mj_hook *h, struct mj_buf *error)
{
    const struct mj_hook_spec *s = h->spec;
    for (size_t i = 0; i < s->secret_count; i++) {
        if (s->made_up && strstr(s->secrets[i], MJ_SECRET_MADE_UP))
            continue;
        if (mj_sign_key_parse(mj_str(s->secrets[i]), &h->keys[i], error))
            return MJ_EINVAL;
        if (!mj_sign_key_signs(h->keys[i])) {
            mj_buf_puts(error, "a whpk_ key only checks signatures; give its private key, whsk_…");
            return MJ_EINVAL;
        }
    }
    snprintf(h->name, sizeof h->name, "%s %s", s->script, s->node);
    for (char *c = h->name; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';
    if (add_headers(h, error))
        return MJ_EINVAL;
    hide(h);
    mj_buf_printf(&h->fixed, "user-agent: moonjet/" MOONJET_VERSION "\r\nmoonjet-reader: %s\r\n",
                  h->name);
    return 0;
}

/* The id of a parcel: its event's, or a hash of its events' ids. */
static void put_id(const struct mj_parcel *p, char out[BATCH_ID + 1])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    if (p->n == 1) {
        memcpy(out, p->items[0].id, sizeof p->items[0].id);
        return;
    }
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; ok && i < p->n; i++)
        ok = EVP_DigestUpdate(md, p->items[i].id, MJ_DELIVERY_ID_LEN) == 1;
    if (ok)
        EVP_DigestFinal_ex(md, digest, NULL);
    EVP_MD_CTX_free(md);
    memcpy(out, "bat_", 4);
    for (size_t i = 0; i < 16; i++) {
        out[4 + 2 * i] = hex[digest[i] >> 4];
        out[5 + 2 * i] = hex[digest[i] & 15];
    }
    out[BATCH_ID] = 0;
}

static int put_headers(const struct mj_hook_ask *a, struct mj_span body, struct mj_buf *out)
{
    const struct mj_hook *h = a->hook;
    const struct mj_parcel *p = a->parcel;
    const struct mj_hook_spec *s = h->spec;
    char id[BATCH_ID + 1], github[MJ_SIGN_GITHUB_LEN + 1];
    int64_t now_s = mj_now_us() / 1000000;
    put_id(p, id);
    mj_buf_puts(out, "content-type: ");
    if (a->made.type.len)
        mj_buf_put(out, a->made.type.ptr, a->made.type.len);
    else if (h->type.len)
        mj_buf_put(out, h->type.ptr, h->type.len);
    else
        mj_buf_puts(out, "application/json");
    mj_buf_puts(out, "\r\n");
    mj_buf_put(out, h->fixed.ptr, h->fixed.len);
    mj_buf_printf(out,
                  "webhook-id: %s\r\nidempotency-key: %s\r\nwebhook-timestamp: %lld\r\n"
                  "moonjet-attempt: %u\r\nmoonjet-cursor: %lld\r\n%s",
                  id, id, (long long)now_s, p->attempt, (long long)p->items[p->n - 1].time_us,
                  p->dead_id ? "moonjet-replay: true\r\n" : "");
    if (s->github_secret && !s->made_up) {
        if (mj_sign_github(mj_str(s->github_secret), body, github))
            return MJ_EINVAL;
        mj_buf_printf(out, "x-hub-signature-256: %s\r\n", github);
    }
    if (!s->secret_count || s->made_up)
        return 0;
    const struct mj_signed what = {mj_str(id), now_s, body};
    mj_buf_puts(out, "webhook-signature: ");
    int err = mj_sign((const struct mj_sign_key *const *)h->keys, s->secret_count, &what, out);
    mj_buf_puts(out, "\r\n");
    return err;
}

/* ---- after ---- */

static void settled(struct mj_hook_ask *a)
{
    mj__hook_free_room(a);
    mj_buf_deinit(&a->made.body);
    mj_buf_deinit(&a->made.type);
    mj_buf_deinit(&a->made.error);
    free(a);
}

void mj__hook_back(struct mj_hook_ask *a)
{
    /* What was sent stays together: the receiver may have it, and knows a batch by its id. */
    struct mj_failure f = {.what = a->sent ? MJ_FAIL_AGAIN : MJ_FAIL_BACK};
    mj_breaker_undo(&a->hook->breaker);
    mj_parcel_fail(a->parcel, mj_now_us(), &f);
    settled(a);
}

/* The script's own doing: nobody was asked, and nobody will take it. */
static void dead(struct mj_hook_ask *a, const char *reason)
{
    struct mj_failure f = {.what = MJ_FAIL_DEAD, .reason = reason};
    mj_breaker_undo(&a->hook->breaker);
    mj_parcel_fail(a->parcel, mj_now_us(), &f);
    settled(a);
}

/* What the breaker learns, and whoever reads the log. */
static void note_health(struct mj_hook *h, bool well, const char *reason)
{
    int64_t now = mj_mono_us();
    if (mj_breaker_ended(&h->breaker, well, mj__hooks_random(h->hooks), now)) {
        if (well) {
            mj_log(MJ_LOG_INFO, "webhook", "%s: %s answers again", h->name,
                   mj_http_line_origin(h->line));
        } else {
            mj_metric_add(h->opened, 1);
            mj_log(MJ_LOG_WARN, "webhook",
                   "%s: %d requests in a row have failed (%s); asking one at a time, with pauses, "
                   "until one succeeds. Nothing is lost: events wait in the journal",
                   h->name, MJ_BREAKER_FAILURES, reason);
        }
    }
    mj_metric_set(h->state, h->breaker.state);
}

/* Not by one that was replaced or taken out while it asked: it was its own address that said so. */
static void disable(struct mj_hook *h, const char *why)
{
    if (h->closing)
        return;
    mj_log(MJ_LOG_ERROR, "webhook",
           "%s: %s %s, so nothing more is posted there. Events wait in the journal; when the "
           "endpoint is back: moonjet ctl deliveries resume \"%s\"",
           h->name, mj_http_line_origin(h->line), why, h->name);
    mj_reader_disable(h->reader, why);
}

/* 401, 403 and 404 may be a mistake of the moment; when they go on, nobody wants it there. */
static void note_refused(struct mj_hook *h, bool refused, int status)
{
    char why[80];
    if (!refused) {
        h->refused = 0;
        return;
    }
    if (!h->refused++)
        h->refused_us = mj_now_us();
    if (h->refused < REFUSED_TIMES || mj_now_us() - h->refused_us < REFUSED_US)
        return;
    h->refused = 0;
    snprintf(why, sizeof why, "has answered %d for an hour", status);
    disable(h, why);
}

static void count(struct mj_hook *h, const struct mj_fetched *answer)
{
    enum mj__posted what = MJ__POSTED_ERROR;
    if (answer->error)
        what = answer->unsent ? MJ__POSTED_REFUSED : MJ__POSTED_ERROR;
    else if (answer->status >= 200 && answer->status < 600) /* 101 and 999 have been seen */
        what = (enum mj__posted)(answer->status / 100 - 2);
    mj_metric_add(h->posted[what], 1);
}

/* A sentence about an answer that is not the one hoped for; never the URL's path. */
static const char *describe(const struct mj_hook *h, const struct mj_fetched *answer, char *out,
                            size_t cap)
{
    if (answer->error)
        return answer->error;
    if (answer->status / 100 == 3)
        snprintf(out, cap, "%s redirects (%d), and redirects are not followed: give the new URL",
                 mj_http_line_origin(h->line), answer->status);
    else
        snprintf(out, cap, "%s answered %d", mj_http_line_origin(h->line), answer->status);
    return out;
}

/* The beginning of the answer, without what is nobody's to see; perhaps in `out`. */
static struct mj_span excerpt(const struct mj_hook *h, struct mj_span body, struct mj_buf *out)
{
    /* Hidden before it is cut, or the half of a secret would be left. */
    struct mj_span shown = mj_secrets_hide(h->hidden, body, out);
    return mj_span(shown.ptr, shown.len < EXCERPT ? shown.len : EXCERPT);
}

/* 2xx: done, but for the events that the receiver names. */
static void taken(struct mj_hook_ask *a, const struct mj_fetched *answer)
{
    struct mj_parcel *p = a->parcel;
    bool *failed = mj_calloc(p->n, sizeof *failed);
    MJ_AUTO_BUF text = {0};
    note_health(a->hook, true, NULL);
    size_t named = mj_hook_failed(answer->body, answer->cut, p->items, p->n, failed);
    if (answer->cut && !named && p->n > 1 && answer->body.len && *answer->body.ptr == '{') {
        static struct mj_log_gate gate;
        mj_log_limited(&gate, 1, MJ_LOG_WARN, "webhook",
                       "%s: an answer is longer than %zu bytes, and up to there no event of the "
                       "batch is named in \"failed\": all count as taken",
                       a->hook->name, answer->body.len);
    }
    if (named) {
        struct mj_failure f = {.what = MJ_FAIL_RETRY,
                               .status = answer->status,
                               .reason = "the receiver says that it failed",
                               .excerpt = excerpt(a->hook, answer->body, &text),
                               .failed = failed};
        mj_parcel_fail(p, mj_now_us(), &f);
    } else {
        mj_parcel_done(p, mj_now_us(), answer->status);
    }
    free(failed);
}

static void not_taken(struct mj_hook_ask *a, const struct mj_fetched *answer,
                      const struct mj_judged *j)
{
    struct mj_hook *h = a->hook;
    char text[400];
    MJ_AUTO_BUF shown = {0};
    bool bad = j->what == MJ_ANSWER_BAD && !h->spec->retry_bad;
    struct mj_failure f = {
        .what = bad ? MJ_FAIL_DEAD : MJ_FAIL_RETRY,
        .after_us = j->after_us,
        .status = answer->status,
        .reason = describe(h, answer, text, sizeof text),
        .excerpt = excerpt(h, answer->body, &shown),
    };
    /* Who can tell that a body is not what it should be is well. */
    note_health(h, j->what == MJ_ANSWER_BAD, f.reason);
    if (j->after_us && mj_mono_us() + j->after_us > h->hold_until_us)
        h->hold_until_us = mj_mono_us() + j->after_us;
    if (j->what == MJ_ANSWER_GONE)
        disable(h, "answered 410, gone");
    mj_parcel_fail(a->parcel, mj_now_us(), &f);
}

static void on_done(void *ctx, const struct mj_fetched *answer)
{
    struct mj_hook_ask *a = ctx;
    struct mj_hook *h = a->hook;
    struct mj_judged j = mj_hook_judge(answer, mj_now_us());
    if (answer->error && atomic_load(&h->hooks->draining)) {
        mj__hook_back(a); /* we have hung up; the id tells the receiver if it has it already */
        return;
    }
    count(h, answer);
    mj_histogram_observe(h->hooks->took, mj_mono_us() - a->sent_us);
    if (j.what == MJ_ANSWER_DONE)
        taken(a, answer);
    else
        not_taken(a, answer, &j);
    note_refused(h, j.what == MJ_ANSWER_REFUSED, answer->status);
    settled(a);
}

/* ---- on the way ---- */

static void post(struct mj_hook_ask *a, struct mj_span body)
{
    struct mj_hook *h = a->hook;
    struct mj_hooks *hs = h->hooks;
    MJ_AUTO_BUF headers = {0};
    a->bytes += a->made.body.len;
    h->bytes += a->made.body.len;
    hs->bytes += a->made.body.len;
    if (put_headers(a, body, &headers)) {
        dead(a, "it could not be signed");
        return;
    }
    if (a->parcel->attempt == 1)
        mj_histogram_observe(hs->delay, mj_now_us() - a->parcel->items[0].time_us);
    a->sent = true;
    a->sent_us = mj_mono_us();
    atomic_fetch_add(&hs->sent, 1);
    mj_http_line_post(h->line, mj_buf_span(&headers), body,
                      ANSWER_MAX + a->parcel->n * FAILED_BYTES, on_done, a);
}

void mj__hook_start(struct mj_hook *h, struct mj_parcel *p)
{
    struct mj_hook_ask *a = mj_calloc(1, sizeof *a);
    a->hook = h;
    a->parcel = p;
    for (size_t i = 0; i < p->n; i++)
        a->bytes += p->items[i].json.len;
    h->busy++;
    h->bytes += a->bytes;
    h->hooks->bytes += a->bytes;
    if (h->spec->format == MJ_HOOK_FUNCTION) {
        h->hooks->cfg.ask(h->hooks->cfg.ctx, a);
    } else if (h->spec->format == MJ_HOOK_EVENT && p->n == 1) {
        post(a, p->items[0].json);
    } else {
        mj_hook_batch(p->items, p->n, &a->made.body);
        post(a, mj_buf_span(&a->made.body));
    }
}

void mj__hook_formatted(struct mj_hook_ask *a)
{
    struct mj_hook *h = a->hook;
    if (atomic_load(&h->hooks->draining)) {
        mj__hook_back(a);
        return;
    }
    switch (a->made.what) {
    case MJ_FORMATTED:
        post(a, mj_buf_span(&a->made.body));
        break;
    case MJ_FORMAT_NONE:
        mj_breaker_undo(&h->breaker);
        mj_parcel_done(a->parcel, mj_now_us(), 0);
        settled(a);
        break;
    case MJ_FORMAT_FAILED:
        dead(a, a->made.error.len ? mj_buf_cstr(&a->made.error) : "its format function failed");
        break;
    case MJ_FORMAT_LATER:
    case MJ_FORMAT_GONE:
        if (mj_mono_us() + QUARANTINE_US > h->hold_until_us)
            h->hold_until_us = mj_mono_us() + QUARANTINE_US;
        mj__hook_back(a);
        break;
    }
}
