/* What a receiver's answer means for what was posted. Pure functions over bytes that strangers
 * wrote. */
#pragma once

#include "journal/reader.h"
#include "script/services.h"

#define MJ_RETRY_AFTER_MAX INT64_C(86400000000) /* µs: a day */
#define MJ_HOOK_FAILED_MAX 10000                /* ids looked at in one answer */

enum mj_answer_class {
    MJ_ANSWER_DONE,    /* 2xx */
    MJ_ANSWER_RETRY,   /* 408, 425, 429, 5xx, 3xx, no answer */
    MJ_ANSWER_REFUSED, /* 401, 403, 404: as RETRY, but if it goes on, nobody wants it there */
    MJ_ANSWER_BAD,     /* another 4xx: this very body is not taken */
    MJ_ANSWER_GONE     /* 410: nothing is wanted any more */
};

struct mj_judged {
    enum mj_answer_class what;
    int64_t after_us; /* Retry-After, of 429 and 503 (and what else brings it), 0: none */
};

/* now_us: Unix µs. */
struct mj_judged mj_hook_judge(const struct mj_fetched *answer, int64_t now_us);
/* Seconds, or a date: µs from now, 0 for what is none or past, MJ_RETRY_AFTER_MAX at most. */
int64_t mj_retry_after(struct mj_span value, int64_t now_us);
/* A body {"failed": [ID, …]}: marks the items it names. Returns how many those are; 0 for whatever
 * else it says. Of a body that was cut, what a list "failed" says up to there counts. */
size_t mj_hook_failed(struct mj_span body, bool cut, const struct mj_item *items, size_t n,
                      bool *failed);
/* The value of a header in lines "name: value\r\n"…; names in lower case. {NULL, 0}: not there. */
struct mj_span mj_hook_header(struct mj_span lines, const char *name);
