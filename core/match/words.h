/* Words: a list of words and phrases to look for, as jet.words has it.
 *
 *   "moon"        the token, whatever its case (match/fold.h says what a token is)
 *   "new york"    tokens that follow each other
 *   "moon*"       the last token may go on: "moonlight"
 *   "*moon*"      so may the first one at its start: "honeymoons"
 *
 * Each word is kept as the stream that must occur in a text's stream; the edges tell where a token
 * must begin and end. Matches that share a list hold references, on whatever thread. A list is made
 * before it is shared; one thread may call mj_words_find(). */
#pragma once

#include "base/bytes.h"

#define MJ_WORD_MAX    256                /* bytes of a word */
#define MJ_WORDS_MAX   1000000u           /* of one list … */
#define MJ_WORDS_BYTES ((size_t)16 << 20) /* … and what they may take, which callers see to */

struct mj_words;

struct mj_words *mj_words_new(void); /* with one reference */
struct mj_words *mj_words_ref(struct mj_words *w);
void mj_words_unref(struct mj_words *w); /* NULL is fine */
/* Adds a word; before the list is used. 0; MJ_ESYNTAX or MJ_ELIMIT with a sentence appended to
 * `error`. */
int mj_words_add(struct mj_words *w, struct mj_span word, struct mj_buf *error);
size_t mj_words_count(const struct mj_words *w);
/* The stream of word i. Borrowed until a word is added. */
struct mj_span mj_words_stream(const struct mj_words *w, size_t i);
/* Bytes it takes, without what mj_words_find() makes; and the same per reference. */
size_t mj_words_bytes(const struct mj_words *w);
size_t mj_words_share(const struct mj_words *w);
/* A word that occurs in the text with that stream: the one that ends first, and of those the
 * longest. Its index, or MJ_ENOENT. The first call makes an automaton of the list. */
int mj_words_find(struct mj_words *w, struct mj_span stream);
