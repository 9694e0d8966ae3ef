/* An Aho-Corasick automaton over bytes: finds which of many patterns occur in a text, in one pass
 * whose cost does not depend on how many there are.
 *
 *   patterns "|he|" "|hers|" "she"         a state per prefix of a pattern
 *
 *      root ─|─▶ 1 ─h─▶ 2 ─e─▶ 3 ─|─▶ (|he|)      where no child fits: on to the state of the
 *       └─s─▶ …             └─r─▶ …                longest prefix that ends here (`fail`)
 *
 * The states are one array in which the child of state s for byte b, if there is one, is the state
 * base(s) + b, and says that s is its parent: a step is one look into memory. States near the root
 * lie side by side, and so do those of what is left of a pattern behind them. Some 17 bytes a
 * state.
 *
 * Immutable once made; any thread may scan. */
#pragma once

#include "base/bytes.h"

struct mj_automaton;

/* Makes one of n patterns (read during the call only); none may be empty. Equal patterns are one:
 * the first of them is reported. At most 2^29 bytes of patterns together. Never NULL. */
struct mj_automaton *mj_automaton_new(const struct mj_span *patterns, size_t n);
void mj_automaton_free(struct mj_automaton *a);
/* Bytes it takes. */
size_t mj_automaton_size(const struct mj_automaton *a);

/* Called for each occurrence, in the order they end, longest first. MJ_SCAN_SEEN: all shorter ones
 * that end in the same place have been reported before, as they were when this one was found
 * first; they are left out. */
enum mj_scan { MJ_SCAN_ON, MJ_SCAN_SEEN, MJ_SCAN_END };
typedef enum mj_scan (*mj_found_fn)(void *ctx, uint32_t pattern);
/* Scans the text. True when fn ended it. */
bool mj_automaton_scan(const struct mj_automaton *a, struct mj_span text, mj_found_fn fn,
                       void *ctx);
/* For each pattern given to mj_automaton_new(), the one reported in its stead: itself, or an equal
 * one before it. */
uint32_t mj_automaton_alias(const struct mj_automaton *a, uint32_t pattern);
