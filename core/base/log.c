#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"

static const char *const names[] = {"debug", "info", "warn", "error"};
static enum mj_log_level lowest_level = MJ_LOG_INFO;
static bool as_json;
static void (*capture)(void *ctx, enum mj_log_level level, const char *tag, const char *text);
static void *capture_ctx;
static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;

void mj_log_setup(enum mj_log_level lowest, bool json)
{
    lowest_level = lowest;
    as_json = json;
}

void mj_log_capture(void (*fn)(void *ctx, enum mj_log_level level, const char *tag,
                               const char *text),
                    void *ctx)
{
    capture = fn;
    capture_ctx = ctx;
}

int mj_log_level_parse(const char *name)
{
    for (size_t i = 0; i < MJ_COUNT(names); i++)
        if (name && strcmp(name, names[i]) == 0)
            return (int)i;
    return -1;
}

const char *mj_log_level_name(enum mj_log_level level) { return names[level]; }

/* One message is one line: control characters from input must neither forge another nor steer a
 * terminal, and those of Latin-1 (U+0080 to U+009F) do that as well. */
static void make_harmless(struct mj_buf *msg)
{
    for (size_t i = 0; i < msg->len; i++) {
        uint8_t c = msg->ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            msg->ptr[i] = ' ';
        } else if (c == 0xc2 && i + 1 < msg->len && msg->ptr[i + 1] >= 0x80 &&
                   msg->ptr[i + 1] < 0xa0) {
            msg->ptr[i] = msg->ptr[i + 1] = ' ';
            i++;
        }
    }
}

static void emit(enum mj_log_level level, const char *tag, unsigned held, const char *fmt,
                 va_list ap)
{
    MJ_AUTO_BUF msg = {0};
    MJ_AUTO_BUF line = {0};
    mj_buf_vprintf(&msg, fmt, ap);
    if (capture) {
        capture(capture_ctx, level, tag, mj_buf_cstr(&msg));
        return;
    }
    if (held)
        mj_buf_printf(&msg, " (%u like it held back)", held);
    int64_t us = mj_now_us();
    time_t sec = us / 1000000;
    struct tm tm;
    gmtime_r(&sec, &tm);
    char when[80];
    snprintf(when, sizeof when, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(us / 1000 % 1000));
    if (as_json) {
        mj_buf_printf(&line, "{\"time\":\"%s\",\"level\":\"%s\",\"tag\":\"%s\",\"msg\":", when,
                      names[level], tag);
        mj_buf_put_json(&line, mj_buf_span(&msg));
        mj_buf_puts(&line, "}\n");
    } else {
        mj_buf_printf(&line, "%s %s %s: ", when, names[level], tag);
        make_harmless(&msg);
        mj_buf_put(&line, msg.ptr, msg.len);
        mj_buf_putc(&line, '\n');
    }
    ssize_t n = write(STDERR_FILENO, line.ptr, line.len);
    (void)n; /* nowhere left to report it */
}

void mj_log(enum mj_log_level level, const char *tag, const char *fmt, ...)
{
    if (level < lowest_level && !capture)
        return;
    va_list ap;
    va_start(ap, fmt);
    emit(level, tag, 0, fmt, ap);
    va_end(ap);
}

void mj_log_limited(struct mj_log_gate *gate, unsigned burst, enum mj_log_level level,
                    const char *tag, const char *fmt, ...)
{
    if (level < lowest_level && !capture)
        return;
    int64_t second = mj_mono_us() / 1000000;
    unsigned held = 0;
    va_list ap;
    if (capture) {
        va_start(ap, fmt);
        emit(level, tag, 0, fmt, ap);
        va_end(ap);
        return;
    }
    pthread_mutex_lock(&gate_lock);
    if (gate->second != second) {
        gate->second = second;
        gate->passed = 0;
    }
    bool pass = gate->passed < burst;
    if (pass) {
        gate->passed++;
        held = gate->held;
        gate->held = 0;
    } else {
        gate->held++;
    }
    pthread_mutex_unlock(&gate_lock);
    if (!pass)
        return;
    va_start(ap, fmt);
    emit(level, tag, held, fmt, ap);
    va_end(ap);
}
