/* Deliveries as text: a line per delivery, a line per dead letter, and one of each in full. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <time.h>

#include "atproto/syntax.h"
#include "cli/deliveries.h"
#include "cli/pretty.h"
#include "cli/text.h"

#define NAME_WIDTH  40
#define ERROR_WIDTH 60
#define ANSWER_MAX  2048 /* characters of an answer that are shown */

static const char *text_at(const cJSON *o, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
    return s ? s : "";
}

static double number_at(const cJSON *o, const char *key)
{
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsNumber(n) ? n->valuedouble : 0;
}

/* "-" for what is not told. */
static const char *count_at(const cJSON *o, const char *key, char out[32])
{
    double n = number_at(o, key);
    if (!cJSON_HasObjectItem(o, key))
        return "-";
    return mj_text_number(n > 0 && n < 1e18 ? (uint64_t)n : 0, out);
}

/* Characters, not bytes: what is padded may be anybody's word. */
static void put_padded(struct mj_buf *out, const char *text, size_t width)
{
    size_t n = mj_text_harmless(mj_str(text), width, out);
    for (; n < width; n++)
        mj_buf_putc(out, ' ');
}

/* 0.2 s, 12 s, 5 min, 3.2 h, 4.0 d; the unit that leaves the fewest digits. */
static void put_duration(struct mj_buf *out, double seconds)
{
    if (seconds < 10)
        mj_buf_printf(out, "%.1f s", seconds);
    else if (seconds < 120)
        mj_buf_printf(out, "%.0f s", seconds);
    else if (seconds < 7200)
        mj_buf_printf(out, "%.0f min", seconds / 60);
    else if (seconds < 172800)
        mj_buf_printf(out, "%.1f h", seconds / 3600);
    else
        mj_buf_printf(out, "%.1f d", seconds / 86400);
}

static void put_ago(struct mj_buf *out, const char *datetime, int64_t now_us)
{
    int64_t us;
    if (!*datetime || mj_datetime_us(mj_str(datetime), &us)) {
        mj_buf_puts(out, "-");
        return;
    }
    char when[32];
    mj_buf_printf(out, "%s, ", mj_text_time(us, when));
    put_duration(out, now_us > us ? (double)(now_us - us) / 1e6 : 0);
    mj_buf_puts(out, " ago");
}

static void put_name(struct mj_buf *out, const cJSON *d)
{
    mj_buf_printf(out, "%s %s", text_at(d, "script"), text_at(d, "node"));
}

/* ---- lists ---- */

static size_t widest_name(const cJSON *list)
{
    size_t widest = 8;
    const cJSON *d;
    cJSON_ArrayForEach(d, list)
    {
        MJ_AUTO_BUF name = {0};
        MJ_AUTO_BUF shown = {0};
        put_name(&name, d);
        size_t n = mj_text_harmless(mj_buf_span(&name), NAME_WIDTH, &shown);
        widest = n > widest ? n : widest;
    }
    return widest;
}

static void put_list(const cJSON *list, struct mj_buf *out)
{
    size_t width = widest_name(list);
    const cJSON *d;
    char a[32], b[32], c[32], e[32];
    if (!cJSON_GetArraySize(list)) {
        mj_buf_puts(out,
                    "nothing is delivered: no script has a jet.webhook, an :each or a plug-in\n");
        return;
    }
    put_padded(out, "delivery", width);
    mj_buf_printf(out, "  %-7s  %-8s  %11s  %8s  %13s  %9s  %7s  %s\n", "kind", "state", "waiting",
                  "lag", "delivered", "failed", "letters", "last error");
    cJSON_ArrayForEach(d, list)
    {
        MJ_AUTO_BUF name = {0};
        MJ_AUTO_BUF lag = {0};
        MJ_AUTO_BUF error = {0};
        put_name(&name, d);
        put_padded(out, mj_buf_cstr(&name), width);
        if (number_at(d, "waiting") > 0)
            put_duration(&lag, number_at(d, "lag_seconds"));
        mj_text_harmless(mj_str(text_at(d, "last_error")), ERROR_WIDTH, &error);
        mj_buf_puts(out, "  ");
        put_padded(out, text_at(d, "kind"), 7);
        mj_buf_puts(out, "  ");
        put_padded(out, text_at(d, "state"), 8);
        mj_buf_printf(out, "  %11s  %8s  %13s  %9s  %7s  %s\n", count_at(d, "waiting", a),
                      lag.len ? mj_buf_cstr(&lag) : "-", count_at(d, "delivered", b),
                      count_at(d, "failed", c), count_at(d, "dead_letters", e),
                      mj_buf_cstr(&error));
    }
}

static void put_letters(const cJSON *list, struct mj_buf *out)
{
    const cJSON *l;
    char when[32], b[32], c[32];
    if (!cJSON_GetArraySize(list))
        return;
    mj_buf_printf(out, "\n%-9s  %-20s  %8s  %6s  %-36s  %s\n", "letter", "died", "attempts",
                  "status", "id", "reason");
    cJSON_ArrayForEach(l, list)
    {
        int64_t us = 0;
        MJ_AUTO_BUF reason = {0};
        mj_datetime_us(mj_str(text_at(l, "died")), &us);
        mj_text_harmless(mj_str(text_at(l, "reason")), 100, &reason);
        mj_buf_printf(out, "%-9.0f  %-20s  %8s  %6s  ", number_at(l, "letter"),
                      mj_text_time(us, when), count_at(l, "attempts", b), count_at(l, "status", c));
        put_padded(out, text_at(l, "id"), 36);
        mj_buf_printf(out, "  %s\n", mj_buf_cstr(&reason));
    }
}

/* ---- one ---- */

static void put_line(struct mj_buf *out, const char *key, const char *value)
{
    mj_buf_printf(out, "%-16s", key);
    mj_text_harmless(mj_str(value), 400, out);
    mj_buf_putc(out, '\n');
}

static void put_delivery(const cJSON *d, int64_t now_us, struct mj_buf *out)
{
    static const struct {
        const char *title, *key;
    } counts[] = {{"waiting", "waiting"},           {"in flight", "in_flight"},
                  {"delivered", "delivered"},       {"failed attempts", "failed"},
                  {"retried", "retried"},           {"died", "dead"},
                  {"dead letters", "dead_letters"}, {"overtaken", "overtaken"}},
      times[] = {{"last delivered", "last_delivered"},
                 {"last failed", "last_failed"},
                 {"oldest waiting", "oldest"}};
    MJ_AUTO_BUF text = {0};
    char number[32];
    put_name(&text, d);
    put_line(out, "delivery", mj_buf_cstr(&text));
    put_line(out, "kind", text_at(d, "kind"));
    put_line(out, "state", text_at(d, "state"));
    for (size_t i = 0; i < MJ_COUNT(counts); i++)
        if (cJSON_HasObjectItem(d, counts[i].key))
            put_line(out, counts[i].title, count_at(d, counts[i].key, number));
    for (size_t i = 0; i < MJ_COUNT(times); i++) {
        if (!cJSON_HasObjectItem(d, times[i].key))
            continue;
        text.len = 0;
        put_ago(&text, text_at(d, times[i].key), now_us);
        put_line(out, times[i].title, mj_buf_cstr(&text));
    }
    if (*text_at(d, "last_error"))
        put_line(out, "last error", text_at(d, "last_error"));
}

static void put_letter(const cJSON *l, int64_t now_us, struct mj_buf *out)
{
    MJ_AUTO_BUF text = {0};
    char number[32];
    mj_buf_printf(out, "%-16s%.0f\n", "letter", number_at(l, "letter"));
    put_line(out, "delivery", text_at(l, "delivery"));
    put_line(out, "id", text_at(l, "id"));
    text.len = 0;
    put_ago(&text, text_at(l, "died"), now_us);
    put_line(out, "died", mj_buf_cstr(&text));
    text.len = 0;
    put_ago(&text, text_at(l, "first_attempt"), now_us);
    put_line(out, "first attempt", mj_buf_cstr(&text));
    put_line(out, "attempts", count_at(l, "attempts", number));
    put_line(out, "reason", text_at(l, "reason"));
    if (*text_at(l, "answer")) {
        mj_buf_printf(out, "%-16s", "answer");
        mj_text_harmless(mj_str(text_at(l, "answer")), ANSWER_MAX, out);
        mj_buf_putc(out, '\n');
    }
    const cJSON *event;
    cJSON_ArrayForEach(event, cJSON_GetObjectItemCaseSensitive(l, "events"))
    {
        char *json = cJSON_PrintUnformatted(event);
        mj_buf_puts(out, "  ");
        mj_pretty(mj_str(json ? json : ""), false, out);
        cJSON_free(json);
    }
}

void mj__deliveries_error(struct mj_span json, struct mj_buf *out)
{
    cJSON *answer = cJSON_ParseWithLength((const char *)json.ptr, json.len);
    mj_text_harmless(mj_str(text_at(answer, "error")), 1000, out);
    cJSON_Delete(answer);
}

bool mj__deliveries_text(struct mj_span json, int64_t now_us, struct mj_buf *out)
{
    cJSON *answer = cJSON_ParseWithLength((const char *)json.ptr, json.len);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "deliveries");
    const cJSON *one = cJSON_GetObjectItemCaseSensitive(answer, "delivery");
    const cJSON *letters = cJSON_GetObjectItemCaseSensitive(answer, "dead_letters"), *l;
    bool known = true;
    if (cJSON_IsArray(list)) {
        put_list(list, out);
    } else if (cJSON_IsObject(one)) {
        put_delivery(one, now_us, out);
        put_letters(letters, out);
    } else if (cJSON_IsArray(letters)) {
        cJSON_ArrayForEach(l, letters)
        {
            if (out->len)
                mj_buf_putc(out, '\n');
            put_letter(l, now_us, out);
        }
    } else {
        known = false;
    }
    cJSON_Delete(answer);
    return known;
}
