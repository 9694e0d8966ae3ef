/* moonjet webhook test: made-up deliveries to a receiver, the right one and, with --all, those that
 * it must refuse. */
#include <inttypes.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/http.h"
#include "base/log.h"
#include "cli/text.h"
#include "cli/webhook.h"
#include "deliver/http.h"

/* The engine reads less, and takes what comes behind as it is: a long answer is an answer. */
#define ANSWER_MAX (16u << 20)
#define SHOWN      500 /* characters of an answer */

struct cfg {
    struct mj_strings secrets, files;
    int64_t timeout;
    bool json, all, github;
};

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    int status; /* 0: none */
    int64_t us;
    struct mj_buf text; /* owned: the body, or what went wrong */
};

struct attempt {
    const struct mj_signed *what;
    struct mj_span body;    /* that is sent, in place of what->body when that was changed */
    bool unsigned_, broken; /* no signature; one that is none of ours */
};

struct tester {
    const struct cfg *cfg;
    const char *url;
    struct mj__webhook_secrets secrets;
    struct mj_http *http;
    int64_t event_us;
    size_t wrong;
};

/* On the net thread. */
static void on_answer(void *ctx, const struct mj_fetched *a)
{
    struct answer *out = ctx;
    pthread_mutex_lock(&out->lock);
    out->status = a->error ? 0 : a->status;
    if (a->error)
        mj_buf_puts(&out->text, a->error);
    else
        mj_buf_put(&out->text, a->body.ptr, a->body.len);
    out->done = true;
    pthread_cond_signal(&out->cond);
    pthread_mutex_unlock(&out->lock);
}

static void put_headers(const struct tester *t, const struct attempt *a, struct mj_buf *out)
{
    const struct mj_span id = a->what->id;
    mj_buf_printf(out,
                  "user-agent: moonjet/" MOONJET_VERSION "\r\nmoonjet-reader: moonjet webhook test"
                  "\r\ncontent-type: application/json\r\nwebhook-id: %.*s\r\n"
                  "idempotency-key: %.*s\r\nwebhook-timestamp: %" PRId64
                  "\r\nmoonjet-attempt: 1\r\nmoonjet-cursor: %" PRId64 "\r\n",
                  (int)id.len, (const char *)id.ptr, (int)id.len, (const char *)id.ptr,
                  a->what->timestamp_s, t->event_us);
    if (a->unsigned_)
        return;
    MJ_AUTO_BUF signatures = {0};
    struct mj_signed what = *a->what;
    MJ_AUTO_BUF other = {0};
    if (a->broken) { /* right for another body */
        mj_buf_put(&other, what.body.ptr, what.body.len);
        mj_buf_putc(&other, ' ');
        what.body = mj_buf_span(&other);
    }
    if (t->secrets.keys_n) {
        mj_sign((const struct mj_sign_key *const *)t->secrets.keys, t->secrets.keys_n, &what,
                &signatures);
        mj_buf_printf(out, "webhook-signature: %s\r\n", mj_buf_cstr(&signatures));
    }
    char hub[MJ_SIGN_GITHUB_LEN + 1];
    if (t->cfg->github && t->secrets.texts_n &&
        mj_sign_github(mj_buf_span(&t->secrets.texts[0]), what.body, hub) == 0)
        mj_buf_printf(out, "x-hub-signature-256: %s\r\n", hub);
}

/* Sends it and waits for the answer. */
static void send_one(const struct tester *t, const struct attempt *a, struct mj_buf *headers,
                     struct answer *out)
{
    put_headers(t, a, headers);
    struct mj_fetch request = {.script = "webhook test",
                               .method = MJ_SPAN("POST"),
                               .url = mj_str(t->url),
                               .headers = mj_buf_span(headers),
                               .body = a->body,
                               .timeout_us = t->cfg->timeout,
                               .max_bytes = ANSWER_MAX};
    int64_t started = mj_mono_us();
    mj_http_send(t->http, &request, true, on_answer, out);
    pthread_mutex_lock(&out->lock);
    while (!out->done)
        pthread_cond_wait(&out->cond, &out->lock);
    pthread_mutex_unlock(&out->lock);
    out->us = mj_mono_us() - started;
}

static void answer_init(struct answer *a)
{
    *a = (struct answer){0};
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->cond, NULL);
}

static void answer_deinit(struct answer *a)
{
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->cond);
    mj_buf_deinit(&a->text);
}

/* "evt_" and 32 random hex digits, as the ids of events. */
static bool make_id(char out[40])
{
    uint8_t bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    strcpy(out, "evt_");
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(out + 4 + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

/* A post as Jetstream tells of it, by nobody. */
static void make_event(int64_t now_us, struct mj_buf *out)
{
    char when[32];
    mj_text_time(now_us, when);
    mj_buf_printf(out,
                  "{\"did\":\"did:plc:moonjettestmoonjettest22\",\"time_us\":%" PRId64
                  ",\"kind\":\"commit\",\"commit\":{\"rev\":\"3kmoonjettes2\",\"operation\":"
                  "\"create\",\"collection\":\"app.bsky.feed.post\",\"rkey\":\"3kmoonjettes2\","
                  "\"record\":{\"$type\":\"app.bsky.feed.post\",\"createdAt\":\"%s\",\"langs\":"
                  "[\"en\"],\"text\":\"A test of moonjet webhook. 🌒\"},\"cid\":"
                  "\"bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy\"}}",
                  now_us, when);
}

/* ---- what is shown ---- */

static void print_lines(struct mj_span lines)
{
    while (lines.len) {
        const uint8_t *end = memchr(lines.ptr, '\n', lines.len);
        size_t n = end ? (size_t)(end - lines.ptr) : lines.len, skip = n + (end != NULL);
        MJ_AUTO_BUF out = {0};
        if (n && lines.ptr[n - 1] == '\r')
            n--;
        mj_text_harmless(mj_span(lines.ptr, n), 300, &out);
        printf("  %s\n", mj_buf_cstr(&out));
        lines = mj_span(lines.ptr + skip, lines.len - skip);
    }
}

/* What the engine makes of such an answer: hook_answer.h. */
static const char *meaning(int status)
{
    switch (status) {
    case 401:
    case 403:
    case 404:
        return "a delivery is tried again; after an hour of nothing else the webhook is disabled";
    case 410:
        return "the webhook is disabled until it is resumed";
    case 0:
    case 408:
    case 425:
    case 429:
        return "a delivery is tried again";
    default:
        return status < 300   ? "delivered"
               : status < 400 ? "redirects are not followed; a delivery is tried again"
               : status < 500 ? "a delivery is a dead letter at once"
                              : "a delivery is tried again";
    }
}

static void print_first(const struct tester *t, struct mj_span headers, struct mj_span body,
                        const struct answer *a)
{
    MJ_AUTO_BUF text = {0};
    if (t->cfg->json)
        return;
    printf("POST %s\n", t->url);
    print_lines(headers);
    printf("  (%zu bytes)\n", body.len);
    if (a->status)
        printf("answer: %d after %.1f ms: %s\n", a->status, (double)a->us / 1000,
               meaning(a->status));
    else
        printf("no answer: ");
    struct mj_span shown = mj_buf_span(&a->text);
    mj_text_harmless(shown, SHOWN, &text);
    if (a->status && text.len)
        printf("  %s\n", mj_buf_cstr(&text));
    else if (!a->status)
        printf("%s: %s\n", mj_buf_cstr(&text), meaning(0));
}

static void report(struct tester *t, const char *what, bool wanted, const struct answer *a,
                   struct mj_buf *json)
{
    bool accepted = a->status >= 200 && a->status < 300;
    bool right = a->status && accepted == wanted;
    t->wrong += !right;
    mj_buf_puts(json, json->len ? "," : "");
    mj_buf_puts(json, "{\"delivery\":");
    mj_buf_put_json(json, mj_str(what));
    mj_buf_printf(json, ",\"status\":%d,\"ms\":%.1f,\"right\":%s}", a->status, (double)a->us / 1000,
                  right ? "true" : "false");
    if (!t->cfg->json && t->cfg->all)
        printf("%-8s %-44s %s %d\n", right ? "right" : "WRONG", what,
               !a->status ? "no answer"
               : accepted ? "accepted"
                          : "refused",
               a->status);
}

/* ---- all ---- */

static void run_all(struct tester *t, const struct mj_signed *what, struct mj_buf *json)
{
    MJ_AUTO_BUF changed = {0};
    struct mj_signed old = *what, future = *what;
    old.timestamp_s -= 3600;
    future.timestamp_s += 3600;
    mj_buf_put(&changed, what->body.ptr, what->body.len - 1);
    mj_buf_puts(&changed, ",\"added\":1}");
    const struct {
        const char *name;
        bool wanted;
        struct attempt attempt;
    } checks[] = {
        {"the same once more, under the same id", true, {what, what->body, false, false}},
        {"without a signature", false, {what, what->body, true, false}},
        {"with a signature that does not fit", false, {what, what->body, false, true}},
        {"with a body that was changed", false, {what, mj_buf_span(&changed), false, false}},
        {"with a timestamp of an hour ago", false, {&old, what->body, false, false}},
        {"with a timestamp of an hour ahead", false, {&future, what->body, false, false}},
    };
    for (size_t i = 0; i < MJ_COUNT(checks); i++) {
        /* GitHub's header has no timestamp. */
        if (!t->secrets.keys_n && checks[i].attempt.what != what)
            continue;
        struct answer a;
        MJ_AUTO_BUF headers = {0};
        answer_init(&a);
        send_one(t, &checks[i].attempt, &headers, &a);
        report(t, checks[i].name, checks[i].wanted, &a, json);
        answer_deinit(&a);
    }
}

static int run(struct tester *t)
{
    char id[40];
    MJ_AUTO_BUF body = {0};
    MJ_AUTO_BUF headers = {0};
    MJ_AUTO_BUF json = {0};
    struct answer a;
    int64_t now = mj_now_us();
    if (!make_id(id)) {
        fprintf(stderr, "moonjet webhook test: the system has no random numbers\n");
        return MJ_EXIT_FAILED;
    }
    t->event_us = now;
    make_event(now, &body);
    const struct mj_signed what = {mj_str(id), now / 1000000, mj_buf_span(&body)};
    answer_init(&a);
    send_one(t, &(struct attempt){&what, what.body, false, false}, &headers, &a);
    print_first(t, mj_buf_span(&headers), what.body, &a);
    if (!t->cfg->json && t->cfg->all)
        printf("\n");
    report(t, "a good delivery", true, &a, &json);
    if (t->cfg->all && a.status)
        run_all(t, &what, &json);
    if (t->cfg->json) {
        MJ_AUTO_BUF out = {0};
        mj_buf_puts(&out, "{\"url\":");
        mj_buf_put_json(&out, mj_str(t->url));
        mj_buf_printf(&out, ",\"id\":\"%s\",\"right\":%s,\"%s\":", id, t->wrong ? "false" : "true",
                      a.status ? "answer" : "error");
        mj_buf_put_json(&out, mj_buf_span(&a.text));
        mj_buf_printf(&out, ",\"deliveries\":[%s]}", mj_buf_cstr(&json));
        printf("%s\n", mj_buf_cstr(&out));
    } else if (!t->cfg->all && !t->wrong) {
        printf(
            "A receiver must also refuse what is not signed, or not right, or old: --all tries.\n");
    }
    answer_deinit(&a);
    return t->wrong ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}

static int test_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    struct mj_url url;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    struct tester t = {.cfg = &cfg, .url = pos.v[0]};
    if (mj_url_parse(t.url, &url) || strncasecmp(t.url, "http", 4) != 0) {
        fprintf(stderr, "moonjet webhook test: '%s' is not a URL like https://example.com/hook\n",
                t.url);
        return MJ_EXIT_USAGE;
    }
    if (cfg.timeout < 1000) {
        fprintf(stderr, "moonjet webhook test: --timeout is at least 1ms\n");
        return MJ_EXIT_USAGE;
    }
    r = mj__webhook_secrets_read("webhook test", &cfg.secrets, &cfg.files, cfg.github, &t.secrets);
    if (r)
        return r;
    for (size_t i = 0; i < t.secrets.keys_n; i++)
        if (!mj_sign_key_signs(t.secrets.keys[i])) {
            fprintf(stderr,
                    "moonjet webhook test: a whpk_ key only checks; signing takes the whsk_ "
                    "one\n");
            r = MJ_EXIT_USAGE;
        }
    if (!r && !t.secrets.texts_n) {
        fprintf(stderr, "moonjet webhook test: give the receiver's secret with --secret-file FILE; "
                        "`moonjet webhook secret` makes one\n");
        r = MJ_EXIT_USAGE;
    }
    mj_log_setup(MJ_LOG_WARN, false);
    if (!r && mj_http_start(&(struct mj_http_cfg){0}, &t.http))
        r = MJ_EXIT_FAILED;
    if (!r)
        r = run(&t);
    mj_http_stop(t.http);
    mj__webhook_secrets_deinit(&t.secrets);
    return r;
}

#define AT(field) offsetof(struct cfg, field)

static const struct mj_option options[] = {
    {"secret", MJ_OPT_LIST, AT(secrets), "TEXT",
     "whsec_… or whsk_…; others on this machine can see it: better in a file; repeatable"},
    {"secret-file", MJ_OPT_LIST, AT(files), "FILE",
     "a file with a secret (- for standard input); repeatable: each signs"},
    {"github", MJ_OPT_FLAG, AT(github), NULL,
     "send X-Hub-Signature-256 as well, by the first secret, which may then be any text"},
    {"all", MJ_OPT_FLAG, AT(all), NULL,
     "also send what a receiver must refuse, and see whether it does"},
    {"timeout", MJ_OPT_TIME, AT(timeout), "TIME", "wait that long for an answer", .def = "15s"},
    {"json", MJ_OPT_FLAG, AT(json), NULL, "one JSON object on stdout"},
    {0}};

const struct mj_command mj__webhook_test = {
    .name = "webhook test",
    .usage = "URL",
    .summary = "Send a made-up, signed delivery to a receiver, and show its answer.",
    .details =
        "It goes out as deliveries do: signed as Standard Webhooks has it, over verified TLS,\n"
        "without following redirects. The exit status is 0 when the receiver accepts it, and\n"
        "with --all also refuses what it must.",
    .options = options,
    .positional_min = 1,
    .positional_max = 1,
    .main = test_main,
};
