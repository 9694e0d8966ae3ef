/* Deliveries, for people: what durable readers (journal/reader.h) are doing, and their dead
 * letters.
 *
 *   moonjet ctl deliveries …   ─▶ control socket ─▶ a thread of its own ─┐
 *   moonjet deliveries --data  ─▶ the stopped process's files, to read ──┴▶ mj__deliveries() ─▶
 * JSON mj__deliveries_text() ◀── JSON ◀──────────┘
 *
 * A delivery's name is "SCRIPT NODE"; any part of it that only one has will do. A dead letter's
 * name is its number, or the webhook-id of what it holds. Internal to core/cli. */
#pragma once

#include "base/options.h"
#include "journal/reader.h"

/* Carries out a command, args[0], and appends the answer, a JSON object: {"ok":true,…} or
 * {"error":"…"}. The status is HTTP's: 200, 400, 404, 409, 500. Any thread; it may take as long as
 * counting in the journal does.
 *
 *   list [NAME]   show NAME|LETTER   retry NAME|LETTER|--all   purge NAME|LETTER
 *   pause NAME    resume NAME        rewind NAME TIME_US       forget NAME
 *
 * `stopped`: nobody runs; list and show only, and what has no owner is not called "gone". */
int mj__deliveries(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                   struct mj_buf *out);

/* The summary that /status has, a JSON object. Cheap: it counts nothing in the journal. */
void mj__deliveries_summary(struct mj_readers *rs, struct mj_buf *out);

/* Appends an answer as text: tables. False when it is not what mj__deliveries() says. */
bool mj__deliveries_text(struct mj_span json, int64_t now_us, struct mj_buf *out);

/* Appends the sentence of an {"error":"…"}. */
void mj__deliveries_error(struct mj_span json, struct mj_buf *out);

/* A moment as people write it: -2h, 2026-11-27T09:00:00Z, microseconds or seconds since 1970,
 * "oldest", "now". 0 with Unix µs, or MJ_ESYNTAX. */
int mj__deliveries_time(const char *text, int64_t now_us, int64_t *out);
/* False, with what is wrong appended to `error`, when these are no words that mj__deliveries()
 * takes: before anybody is asked. */
bool mj__deliveries_check(const struct mj_strings *args, struct mj_buf *error);
