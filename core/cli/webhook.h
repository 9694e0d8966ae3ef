/* What the verbs of `moonjet webhook` share. Internal to core/cli. */
#pragma once

#include "base/http.h"
#include "base/options.h"
#include "deliver/sign.h"

#define MJ__WEBHOOK_KEYS 8

/* Secrets of the command line and of files; wiped by deinit. */
struct mj__webhook_secrets {
    struct mj_sign_key *keys[MJ__WEBHOOK_KEYS]; /* owned */
    struct mj_buf texts[MJ__WEBHOOK_KEYS];      /* owned: as given, without outer blanks */
    size_t keys_n, texts_n;
};
/* `any`: texts that are no Standard Webhooks secret are taken, too, for X-Hub-Signature-256. 0, or
 * an exit status after a message that begins with "moonjet WHO: ". */
int mj__webhook_secrets_read(const char *who, const struct mj_strings *texts,
                             const struct mj_strings *files, bool any,
                             struct mj__webhook_secrets *out);
void mj__webhook_secrets_deinit(struct mj__webhook_secrets *s);

/* What webhook listen has got, and what it makes of it. */
struct mj__delivery {
    const struct mj_http_head *head; /* borrowed, as the spans */
    struct mj_span body, id;
    bool good;            /* it is what it says it is */
    unsigned again;       /* how often its id came before, in good ones */
    int status;           /* our answer */
    struct mj_buf how;    /* owned: "signed", or why it is refused */
    struct mj_buf answer; /* owned */
};
/* Appends a line, and one for each event of a good one. */
void mj__delivery_text(const struct mj__delivery *d, bool colour, struct mj_buf *out);
/* Appends a line of JSON. */
void mj__delivery_json(const struct mj__delivery *d, struct mj_buf *out);

extern const struct mj_command mj__webhook_listen, mj__webhook_test;
