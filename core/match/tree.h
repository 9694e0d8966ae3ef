/* The tree behind a match expression. Internal to the match room. */
#pragma once

#include "match/match.h"

enum mj__type {
    MJ__AND,
    MJ__OR,
    MJ__NOT,
    MJ__KINDS,
    MJ__OPS,
    MJ__SET,
    MJ__PREFIX,
    MJ__MEMBER,
    MJ__PRESENT,
    MJ__HAS_TEXT,
    MJ__IS_REPLY,
    MJ__WORDS
};

struct mj_match {
    enum mj__type type;
    enum mj_field field;        /* SET, PREFIX, MEMBER, PRESENT */
    unsigned mask;              /* KINDS, OPS */
    struct mj_match **children; /* owned; AND, OR, NOT */
    size_t count, cap;
    struct mj_span prefix;  /* owned; PREFIX */
    struct mj_set *members; /* ref; MEMBER */
    struct mj_words *words; /* ref; WORDS */
    bool all;               /* WORDS */
    struct mj_path *path;   /* owned, with the text behind it; MJ_FIELD_PATH */
    struct mj_span path_text;
    struct {
        struct mj_span *slots; /* owned, and so is each value; open addressing */
        size_t count, cap;     /* cap is 0 or a power of two, at most half full */
        size_t bytes;          /* of the values */
    } set;
};

/* Evaluates with somebody else's answers to atoms on words; words NULL: looks for them here. */
typedef bool (*mj__words_fn)(void *ctx, const struct mj_match *atom);
bool mj__match_eval(const struct mj_match *m, struct mj_facts *f, mj__words_fn words, void *ctx);

/* What an expression comes to when only kind, operation and collection are known. */
enum mj__tri { MJ__NO, MJ__YES, MJ__DEPENDS };
enum mj__tri mj__match_class(const struct mj_match *m, const struct mj_event *ev);
/* True when kind, operation and collection decide it. */
bool mj__match_is_class(const struct mj_match *m);
bool mj__match_in_set(const struct mj_match *set, struct mj_span value);
