/* What the verbs of `moonjet webhook` share. Internal to core/cli. */
#pragma once

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

extern const struct mj_command mj__webhook_listen, mj__webhook_test;
