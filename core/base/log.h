/* Logging: one line per message on stderr, as text or as JSON; data goes to stdout, talk to stderr.
 *
 *   mj_log(MJ_LOG_WARN, "firehose", "reconnecting in %d ms", ms);
 *   text:  2026-07-04T14:38:08.123Z warn firehose: reconnecting in 250 ms
 *   json:  {"time":"2026-07-04T14:38:08.123Z","level":"warn","tag":"firehose","msg":"reconn…"}
 *
 * A caller that may log per event uses mj_log_limited() with a static gate: at most `burst` lines
 * per second pass, the rest are counted and told in the next line that passes. Thread-safe. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum mj_log_level { MJ_LOG_DEBUG, MJ_LOG_INFO, MJ_LOG_WARN, MJ_LOG_ERROR };

struct mj_log_gate {
    int64_t second;
    unsigned passed, held;
};

void mj_log_setup(enum mj_log_level lowest, bool json);
/* Every message goes to fn instead of stderr, whatever its level and however many there are; `text`
 * is borrowed during the call. fn NULL: stderr again. For test runners, before there are other
 * threads. */
void mj_log_capture(void (*fn)(void *ctx, enum mj_log_level level, const char *tag,
                               const char *text),
                    void *ctx);
/* Level by name ("debug", "info", "warn", "error"); -1 when unknown. */
int mj_log_level_parse(const char *name);
/* "debug", "info", "warn", "error" */
const char *mj_log_level_name(enum mj_log_level level);
void mj_log(enum mj_log_level level, const char *tag, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void mj_log_limited(struct mj_log_gate *gate, unsigned burst, enum mj_log_level level,
                    const char *tag, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
