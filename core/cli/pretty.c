#include "cli/pretty.h"

#include <cjson/cJSON.h>
#include <time.h>

#include "atproto/utf8.h"

#define TEXT_CHARS 72

static const struct {
    const char *operation, *sign, *colour;
} signs[] = {{"create", "+", "\033[32m"}, {"update", "~", "\033[33m"}, {"delete", "-", "\033[31m"}};

static const char *text_of(const cJSON *o, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
    return s ? s : "";
}

/* Length of the UTF-8 character at s, 0 for anything that must not reach a terminal: control
 * characters, and those that turn or hide the text around them. */
static size_t visible(const uint8_t *s, size_t n)
{
    unsigned len = mj_utf8_len(s, s + n);
    if (!len)
        return 0;
    uint32_t c = len == 1 ? s[0] : s[0] & (0x7fu >> len);
    for (unsigned i = 1; i < len; i++)
        c = c << 6 | (s[i] & 0x3f);
    bool hidden = c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) ||
                  (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
    return hidden ? 0 : len;
}

/* At most `chars` characters, padded to `width`; runs of what is not visible become one blank. */
static void put_text(struct mj_buf *out, const char *text, size_t chars, size_t width)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t n = strlen(text), shown = 0;
    bool blank = false;
    while (n && shown < chars) {
        size_t len = visible(s, n);
        if (len && *s != ' ') {
            if (blank && shown) {
                mj_buf_putc(out, ' ');
                shown++;
            }
            mj_buf_put(out, s, len);
            shown++;
        }
        blank = !len || *s == ' ';
        len = len ? len : 1;
        s += len;
        n -= len;
    }
    if (n) {
        mj_buf_puts(out, "…");
        shown++;
    }
    for (; shown < width; shown++)
        mj_buf_putc(out, ' ');
}

/* "post" of "app.bsky.feed.post": the part people know. */
static const char *last_part(const char *nsid)
{
    const char *dot = strrchr(nsid, '.');
    return dot ? dot + 1 : nsid;
}

/* What a record is about, in the words of its most telling field. */
static const char *gist(const cJSON *record)
{
    static const char *const keys[] = {"text", "displayName", "name", "title", "description"};
    for (size_t i = 0; i < MJ_COUNT(keys); i++)
        if (*text_of(record, keys[i]))
            return text_of(record, keys[i]);
    const cJSON *subject = cJSON_GetObjectItemCaseSensitive(record, "subject");
    if (cJSON_IsString(subject))
        return cJSON_GetStringValue(subject);
    return text_of(subject, "uri");
}

static void put_time(struct mj_buf *out, const cJSON *time_us)
{
    bool known = cJSON_IsNumber(time_us) && time_us->valuedouble > 0 && time_us->valuedouble < 1e17;
    time_t s = known ? (time_t)(time_us->valuedouble / 1e6) : 0;
    struct tm tm;
    char text[16] = "--:--:--";
    if (localtime_r(&s, &tm))
        strftime(text, sizeof text, "%H:%M:%S", &tm);
    mj_buf_printf(out, "%s  ", text);
}

void mj_pretty(struct mj_span json, bool colour, struct mj_buf *out)
{
    cJSON *ev = cJSON_ParseWithLength((const char *)json.ptr, json.len);
    const cJSON *commit = cJSON_GetObjectItemCaseSensitive(ev, "commit");
    const char *kind = text_of(ev, "kind"), *did = text_of(ev, "did");
    const char *sign = "?", *tint = "", *name = kind, *about = "";
    MJ_AUTO_BUF note = {0};
    if (!*kind || !*did) {
        char *whole = mj_span_dup(json);
        put_text(out, whole, 200, 0);
        mj_buf_putc(out, '\n');
        free(whole);
        cJSON_Delete(ev);
        return;
    }
    if (commit) {
        for (size_t i = 0; i < MJ_COUNT(signs); i++)
            if (strcmp(text_of(commit, "operation"), signs[i].operation) == 0) {
                sign = signs[i].sign;
                tint = signs[i].colour;
            }
        name = last_part(text_of(commit, "collection"));
        const cJSON *record = cJSON_GetObjectItemCaseSensitive(commit, "record");
        about = record ? gist(record) : text_of(commit, "rkey");
    } else {
        const cJSON *body = cJSON_GetObjectItemCaseSensitive(ev, kind);
        sign = "@";
        tint = "\033[36m";
        const cJSON *active = cJSON_GetObjectItemCaseSensitive(body, "active");
        mj_buf_printf(&note, "%s%s",
                      cJSON_IsTrue(active)    ? "active "
                      : cJSON_IsFalse(active) ? "inactive "
                                              : "",
                      *text_of(body, "handle") ? text_of(body, "handle") : text_of(body, "status"));
        about = mj_buf_cstr(&note);
    }
    put_time(out, cJSON_GetObjectItemCaseSensitive(ev, "time_us"));
    mj_buf_printf(out, "%s%s ", colour ? tint : "", sign);
    put_text(out, name, 12, 12);
    mj_buf_puts(out, colour ? "\033[0m \033[2m" : " ");
    put_text(out, did, 40, 32);
    mj_buf_puts(out, colour ? "\033[0m  " : "  ");
    put_text(out, about, TEXT_CHARS, 0);
    mj_buf_putc(out, '\n');
    cJSON_Delete(ev);
}
