/* Folding: what of a text matters when words are looked for in it.
 *
 *   case      as Unicode's simple case folding has it: "ΣΊΣΥΦΟΣ" and "σίσυφος" are the same
 *   tokens    letters, digits, marks and underscores join to one; every other character, and every
 *             character of scripts written without spaces (Chinese, Japanese, Thai, …), is a token
 *             by itself, together with the marks on it
 *   space     any run of it only separates tokens
 *   ignored   what shows nothing: soft hyphens, joiners, variation selectors, direction marks
 *
 * The result is a stream of bytes: the folded UTF-8 of the tokens with MJ_EDGE, a byte no UTF-8
 * has, before, between and after them.
 *
 *   "New-York  東京"    | new | - | york | 東 | 京 |
 *
 * A word to look for gives such a stream, too, and is found where its stream occurs in the text's.
 * An apostrophe is a character as any other, so "moon" is found in "moon's"; ’ counts as '. */
#pragma once

#include "base/bytes.h"

#define MJ_EDGE   0xff /* in a stream: here a token begins or ends */
#define MJ_BROKEN 0xfe /* in a stream: a byte that was no UTF-8; nothing looked for has it */

/* Appends the text's stream: at most twice its bytes and two. Any bytes will do. */
void mj_fold_tokens(struct mj_span text, struct mj_buf *out);
/* Appends the text with its case folded and nothing else: at most one and a half times its
 * bytes. Bytes that are no UTF-8 stay as they are. */
void mj_fold_case(struct mj_span text, struct mj_buf *out);
