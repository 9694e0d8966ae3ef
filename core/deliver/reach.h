/* What requests that scripts make may reach. A script often takes an address out of a record, which
 * a stranger wrote; so whatever is not the public internet is refused, on the very address that is
 * about to be connected to: names that lead to private addresses, names that change where they lead
 * in between, and odd ways of writing numbers all end there.
 *
 *   host name ──DNS──▶ 10.0.0.5 ── mj_address_special(): "a private address"
 *                                        └─ unless the operator's list has it:
 *                                           hook.example   hook.example:8080
 *                                           10.0.0.0/8     10.0.0.5:8080   [fd00::1]:80
 *
 * The list is made once, then read by any thread. */
#pragma once

#include "base/ip.h"

struct mj_reach;

/* Allows nothing but the public internet. Never NULL. */
struct mj_reach *mj_reach_new(void);
void mj_reach_free(struct mj_reach *r);
/* Adds a host name, an address or a prefix, each with or without ":PORT"; an IPv6 address with a
 * port stands in brackets. 0, or MJ_ESYNTAX with a sentence appended to `error`. */
int mj_reach_allow(struct mj_reach *r, const char *text, struct mj_buf *error);
/* May the address be connected to, on behalf of a request to that host? r NULL: an empty list. */
bool mj_reach_may(const struct mj_reach *r, const char *host, const struct mj_address *a, int port);

/* The same, but public addresses are allowed no more than others: only what the list has. */
bool mj_reach_names(const struct mj_reach *r, const char *host, const struct mj_address *a,
                    int port);

/* What the address is, "a private address", when it is not one of the public internet; else NULL.
 * IPv4 addresses inside of IPv6 ones count as what they are. Static storage. */
const char *mj_address_special(const struct mj_address *a);
