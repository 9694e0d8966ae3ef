/* Match expressions: which events a flow wants, as a small tree that C evaluates without Lua.
 *
 *   atom      one question about a field: kind in a set, operation in a set, collection or DID
 *             in a set of exact values or below a prefix
 *   and/or/not  over children
 *
 *   "app.bsky.feed.post:create"            and(set(collection), ops(create))
 *   { collection = {"a.b.c", "a.d.*"} }    or(set(collection a.b.c), prefix(collection "a.d."))
 *
 * A question about a field an event does not have (the collection of an identity event) is
 * answered no; `not` around it then says yes, as logic demands.
 *
 * A parent owns its children; the root is freed with mj_match_free(). Immutable once built. */
#pragma once

#include "event/event.h"

enum mj_field { MJ_FIELD_COLLECTION, MJ_FIELD_DID };

struct mj_match;

struct mj_match *mj_match_and(void);                   /* no children: always true */
struct mj_match *mj_match_or(void);                    /* no children: never true */
struct mj_match *mj_match_not(struct mj_match *child); /* takes the child */
struct mj_match *mj_match_kinds(unsigned mask);        /* bits 1 << MJ_KIND_… */
struct mj_match *mj_match_ops(unsigned mask);          /* bits 1 << MJ_OP_… */
struct mj_match *mj_match_set(enum mj_field field);    /* exact values, hashed */
struct mj_match *mj_match_prefix(enum mj_field field, struct mj_span prefix);
/* Adds a child to an and/or; takes it. */
void mj_match_add(struct mj_match *parent, struct mj_match *child);
/* Adds a value to a set (copied; repeats are fine). */
void mj_match_set_add(struct mj_match *set, struct mj_span value);
void mj_match_free(struct mj_match *m);

/* The short form: "NSID", "NSID:op", "PREFIX.*", "PREFIX.*:op", "*:op", "#kind", "*". 0 with a
 * new tree, or MJ_ESYNTAX with a sentence appended to `error`. */
int mj_match_parse(struct mj_span text, struct mj_match **out, struct mj_buf *error);
/* One value of a field: adds it to `set` (an NSID, a DID), or returns in *out a tree of its own
 * (`app.bsky.*`). 0 or MJ_ESYNTAX with a sentence appended to `error`. */
int mj_match_value(enum mj_field field, struct mj_span text, struct mj_match *set,
                   struct mj_match **out, struct mj_buf *error);
/* Bit of a kind or operation by name, or MJ_ESYNTAX with a sentence appended to `error`. */
int mj_match_kind_named(struct mj_span name, struct mj_buf *error);
int mj_match_op_named(struct mj_span name, struct mj_buf *error);

/* Asks one event. Reads only scalars of the event, never its record. */
bool mj_match_eval(const struct mj_match *m, const struct mj_event *ev);

/* What an expression comes to before the DID is looked at. */
enum mj_tri { MJ_NO, MJ_YES, MJ_DEPENDS };
enum mj_tri mj_match_without_did(const struct mj_match *m, const struct mj_event *ev);
/* True when the expression can only hold for DIDs it names in exact sets; then calls fn (unless
 * NULL) for each of them, perhaps repeatedly. */
bool mj_match_dids(const struct mj_match *m, void (*fn)(void *ctx, struct mj_span did), void *ctx);
