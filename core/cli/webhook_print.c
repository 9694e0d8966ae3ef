/* A delivery, as webhook listen prints it. Strangers wrote what is in it, so nothing that could
 * steer a terminal gets through. */
#include <inttypes.h>
#include <time.h>

#include "atproto/utf8.h"
#include "base/clock.h"
#include "base/json.h"
#include "cli/pretty.h"
#include "cli/text.h"
#include "cli/webhook.h"

#define ID_CHARS 80 /* of an id that are shown */

/* The member of an object, or {NULL, 0}. */
static struct mj_span member(struct mj_span object, const char *raw_key, int wanted)
{
    struct mj_span rest = mj_json_inside(object), key, value;
    for (int type; (type = mj_json_member(&rest, &key, &value)) >= 0;)
        if (type == wanted && mj_span_is(key, raw_key))
            return value;
    return (struct mj_span){NULL, 0};
}

static void put_event(struct mj_span json, bool colour, struct mj_buf *out)
{
    mj_buf_puts(out, "    ");
    mj_pretty(json, colour, out);
}

/* An event, a batch of them, or what somebody has made of them. */
static void put_events(struct mj_span body, bool colour, struct mj_buf *out)
{
    struct mj_span rest = body, value, one;
    int type = mj_json_take(&rest, &value);
    bool json = type >= 0 && !rest.len;
    struct mj_span list = json && type == MJ_JSON_OBJECT  ? member(value, "\"data\"", MJ_JSON_ARRAY)
                          : json && type == MJ_JSON_ARRAY ? value
                                                          : (struct mj_span){NULL, 0};
    if (!json && body.len) {
        mj_buf_puts(out, "    ");
        mj_text_harmless(body, 200, out);
        mj_buf_putc(out, '\n');
    } else if (json && !list.ptr) {
        put_event(value, colour, out);
    }
    if (!list.ptr)
        return;
    rest = mj_json_inside(list);
    while ((type = mj_json_element(&rest, &one)) >= 0) {
        struct mj_span event = type == MJ_JSON_OBJECT ? member(one, "\"event\"", MJ_JSON_OBJECT)
                                                      : (struct mj_span){NULL, 0};
        put_event(event.ptr ? event : one, colour, out);
    }
}

void mj__delivery_text(const struct mj__delivery *d, bool colour, struct mj_buf *out)
{
    char bytes[32], clock[16];
    time_t now = (time_t)(mj_now_us() / 1000000);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(clock, sizeof clock, "%H:%M:%S", &tm);
    mj_buf_printf(out, "%s  %s%d%s  ", clock,
                  !colour   ? ""
                  : d->good ? "\033[32m"
                            : "\033[31m",
                  d->status, colour ? "\033[0m" : "");
    mj_text_harmless(d->id.len ? d->id : MJ_SPAN("(no id)"), ID_CHARS, out);
    mj_buf_printf(out, "  %s bytes, ", mj_text_number(d->body.len, bytes));
    mj_text_harmless(mj_buf_span(&d->how), 300, out);
    if (d->again == 1)
        mj_buf_puts(out, "; came once before");
    else if (d->again)
        mj_buf_printf(out, "; came %u times before", d->again);
    mj_buf_putc(out, '\n');
    if (d->good)
        put_events(d->body, colour, out);
}

/* The body as JSON, in one line: strings of JSON have no line ends of their own. What is none, or
 * no UTF-8, is a string. */
static void put_body(struct mj_span body, struct mj_buf *out)
{
    struct mj_span rest = body, value;
    if (mj_json_take(&rest, &value) < 0 || rest.len || !mj_utf8_valid(body)) {
        mj_buf_put_json(out, body);
        return;
    }
    size_t at = out->len;
    mj_buf_put(out, value.ptr, value.len);
    for (; at < out->len; at++)
        if (out->ptr[at] == '\n' || out->ptr[at] == '\r')
            out->ptr[at] = ' ';
}

void mj__delivery_json(const struct mj__delivery *d, struct mj_buf *out)
{
    mj_buf_printf(out, "{\"time_us\":%" PRId64 ",\"good\":%s,\"%s\":", mj_now_us(),
                  d->good ? "true" : "false", d->good ? "how" : "why");
    mj_buf_put_json(out, mj_buf_span(&d->how));
    mj_buf_printf(out, ",\"status\":%d,\"before\":%u,\"method\":", d->status, d->again);
    mj_buf_put_json(out, d->head->method);
    mj_buf_puts(out, ",\"target\":");
    mj_buf_put_json(out, d->head->target);
    mj_buf_puts(out, ",\"headers\":{");
    for (size_t i = 0; i < d->head->count; i++) {
        mj_buf_puts(out, i ? "," : "");
        mj_buf_put_json(out, d->head->headers[i].name);
        mj_buf_putc(out, ':');
        mj_buf_put_json(out, d->head->headers[i].value);
    }
    mj_buf_puts(out, "},\"body\":");
    put_body(d->body, out);
    mj_buf_puts(out, "}\n");
}
