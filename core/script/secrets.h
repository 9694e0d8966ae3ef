/* Secrets: what jet.secret gives a script, and what its log lines must not show.
 *
 *   MOONJET_SECRET_NAME in the environment, then NAME in --secrets DIR, then NAME in
 *   $CREDENTIALS_DIRECTORY (systemd's)
 *
 * A script gets what the configuration grants it. Every value that was given is remembered with the
 * VM, and taken out of whatever the script logs. Webhooks have a list of their own, for answers
 * that repeat what they were sent. */
#pragma once

#include "script/script.h"

#define MJ_SECRET_MAX     (64u << 10) /* bytes of a value */
#define MJ_SECRET_MADE_UP "made-up"   /* every value, where secrets are worth nothing */
#define MJ_SECRET_HIDDEN  4           /* shorter ones are nobody's secret, and in every text */

struct mj_secret {
    struct mj_secret *next; /* owned */
    size_t len;
    char value[];
};

/* Finds the value of a secret for a script with that configuration. 0, or with a sentence in
 * `error` MJ_EINVAL (no name for a secret), MJ_EAGAIN (not granted), MJ_ENOENT, MJ_EIO. */
int mj_secret_find(const struct mj_script_cfg *cfg, const char *name, struct mj_buf *value,
                   struct mj_buf *error);
void mj_secret_remember(struct mj_secret **list, struct mj_span value);
/* That value may be shown again: nobody takes it any more. */
void mj_secret_forget(struct mj_secret **list, struct mj_span value);
void mj_secrets_free(struct mj_secret *list);
/* The text with "***" for every secret in it: the text itself when there is none, else in `out`. */
struct mj_span mj_secrets_hide(const struct mj_secret *list, struct mj_span text,
                               struct mj_buf *out);
