/* Match expressions: which events a flow wants, as a small tree that C evaluates without Lua.
 *
 *   atom      one question about a field (match/facts.h): is it there, is one of its values in a
 * set, does one start so; or: does a word occur, is the kind, the operation in a set and/or/not
 * over children
 *
 *   "app.bsky.feed.post:create"            and(set(collection), ops(create))
 *   { collection = {"a.b.c", "a.d.*"} }    or(set(collection a.b.c), prefix(collection "a.d."))
 *   { lang = jet.no "pt" }                 and(present(lang), not(set(lang pt)))
 *
 * A question about a field an event does not have (the collection of an identity event) is
 * answered no; `not` around it then says yes, as logic demands.
 *
 * A parent owns its children; the root is freed with mj_match_free(). Immutable once built. */
#pragma once

#include "match/facts.h"
#include "match/words.h"
#include "state/set.h"

struct mj_match;

struct mj_match *mj_match_and(void);                   /* no children: always true */
struct mj_match *mj_match_or(void);                    /* no children: never true */
struct mj_match *mj_match_not(struct mj_match *child); /* takes the child */
struct mj_match *mj_match_kinds(unsigned mask);        /* bits 1 << MJ_KIND_… */
struct mj_match *mj_match_ops(unsigned mask);          /* bits 1 << MJ_OP_… */
struct mj_match *mj_match_set(enum mj_field field);    /* exact values, hashed */
struct mj_match *mj_match_prefix(enum mj_field field, struct mj_span prefix); /* of a text */
/* A member of a set that may change at any time. Takes the reference. */
struct mj_match *mj_match_member(enum mj_field field, struct mj_set *set);
struct mj_match *mj_match_present(enum mj_field field); /* any value */
struct mj_match *mj_match_has_text(void);               /* the record has a text … */
struct mj_match *mj_match_is_reply(void);               /* … a `reply` */
/* One of the list's words occurs in the text, or with `all` anywhere in the record's words. Takes
 * the reference. */
struct mj_match *mj_match_words(struct mj_words *words, bool all);
/* Names the value that an atom on MJ_FIELD_PATH asks for. Its sets hold CBOR items. 0 or MJ_ESYNTAX
 * or MJ_ELIMIT for what is no path. */
int mj_match_path(struct mj_match *atom, struct mj_span path);
/* Adds a child to an and/or; takes it. */
void mj_match_add(struct mj_match *parent, struct mj_match *child);
/* Adds a value to a set (copied; repeats are fine). */
void mj_match_set_add(struct mj_match *set, struct mj_span value);
size_t mj_match_set_count(const struct mj_match *set);
void mj_match_free(struct mj_match *m);
/* Bytes it takes; a list of words that others hold, too, counts in part. */
size_t mj_match_size(const struct mj_match *m);

/* The short form: "NSID", "NSID:op", "PREFIX.*", "PREFIX.*:op", "*:op", "#kind", "*". 0 with a
 * new tree, or MJ_ESYNTAX with a sentence appended to `error`. */
int mj_match_parse(struct mj_span text, struct mj_match **out, struct mj_buf *error);
/* One value of a field as people write it: adds it to `set`, or returns in *out a tree of its own
 * (`app.bsky.*`). 0 or MJ_ESYNTAX with a sentence appended to `error`. Not for MJ_FIELD_PATH. */
int mj_match_value(enum mj_field field, struct mj_span text, struct mj_match *set,
                   struct mj_match **out, struct mj_buf *error);
/* Bit of a kind or operation by name, or MJ_ESYNTAX with a sentence appended to `error`. */
int mj_match_kind_named(struct mj_span name, struct mj_buf *error);
int mj_match_op_named(struct mj_span name, struct mj_buf *error);

/* Asks the event that the facts are about. */
bool mj_match_eval(const struct mj_match *m, struct mj_facts *facts);
/* The same; when the answer is no, appends why, as part of a sentence: `lang is "en", wanted "pt"`.
 * What strangers wrote is quoted as JSON does. For people, so it takes its time. */
bool mj_match_explain(const struct mj_match *m, struct mj_facts *facts, struct mj_buf *out);
/* False when no event of the same kind, operation and collection as this one can match. */
bool mj_match_may(const struct mj_match *m, const struct mj_event *like);
/* True when it may ask for something in the record, which must be checked then. */
bool mj_match_reads_record(const struct mj_match *m);
