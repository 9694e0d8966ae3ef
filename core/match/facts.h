/* Facts: what an event says about itself, as far as matches ask. Each is read when first asked for,
 * straight from the record's bytes, and then kept for all flows that look at the event.
 *
 *   collection  of commits only
 *   did         the account
 *   lang        "pt-br" and "pt" of "pt-BR"
 *   tag         folded, without '#'
 *   mention     DIDs in rich text
 *   link        "www.example.com", "example.com" and "com" of an address
 *   reply_to    the parent's URI and its DID; root, quote and subject alike
 *
 * A record of an unexpected shape has fewer facts, and that is all. What is listed beyond
 * MJ_FACTS_MAX values is not looked at: no honest record has that many, and each costs every flow
 * that asks for it.
 *
 * Spans point into the event, or into the facts' own scratch; both are good until the next
 * mj_facts_begin(). One thread. */
#pragma once

#include "event/event.h"
#include "event/path.h"

#define MJ_FACTS_MAX 1000

enum mj_field {
    MJ_FIELD_COLLECTION, /* the first two need no record */
    MJ_FIELD_DID,
    MJ_FIELD_LANG,
    MJ_FIELD_TAG,
    MJ_FIELD_MENTION,
    MJ_FIELD_LINK,
    MJ_FIELD_REPLY_TO,
    MJ_FIELD_ROOT,
    MJ_FIELD_QUOTE,
    MJ_FIELD_SUBJECT,
    MJ_FIELD_COUNT,
    MJ_FIELD_PATH = MJ_FIELD_COUNT /* any value of the record, named by a path; not a list */
};

struct mj_facts;

/* An array of spans, borrowed from the facts. */
struct mj_values {
    struct mj_span *items;
    size_t count;
};

struct mj_facts *mj_facts_new(void);
void mj_facts_free(struct mj_facts *f);
/* Forgets everything and turns to another event (borrowed). Its record, if it has one, has passed
 * mj_record_check(). Deletes have none, whatever they carry. */
void mj_facts_begin(struct mj_facts *f, const struct mj_event *ev);
const struct mj_event *mj_facts_event(const struct mj_facts *f);
/* The record, or {NULL, 0}. */
struct mj_span mj_facts_record(const struct mj_facts *f);

struct mj_values mj_facts_values(struct mj_facts *f, enum mj_field field);
/* True when the record has a text, and when it has a `reply`. */
bool mj_facts_has_text(struct mj_facts *f);
bool mj_facts_is_reply(struct mj_facts *f);
/* The stream (match/fold.h) of record.text; of everything in the record that is read as words: the
 * same, then alt texts, link card, tags. Empty when there is none. */
struct mj_span mj_facts_text(struct mj_facts *f);
struct mj_span mj_facts_words(struct mj_facts *f);
/* True when something is at the path; a last step $link or $bytes finds a link or bytes. */
bool mj_facts_has(struct mj_facts *f, const struct mj_path *path);
/* The text, integer or boolean at the path as one CBOR item; empty when there is none. A link is
 * its text when the path ends in $link. Borrowed until the next call. */
struct mj_span mj_facts_item(struct mj_facts *f, const struct mj_path *path);

/* What values are compared with, made from how people write them: languages and hosts in lower
 * case, tags folded, the rest as it is. Appends to `out`. */
void mj_facts_key(enum mj_field field, struct mj_span text, struct mj_buf *out);
