/* Reading JSON that strangers sent, without building a tree: values are taken off a span one by
 * one, as spans of the input. Nothing is allocated however hostile the input is, numbers keep
 * their text (an exact 64-bit integer stays one, and `1e3` can be told from `1000`).
 * For control messages; records never come this way. */
#pragma once

#include "base/bytes.h"

#define MJ_JSON_DEPTH_MAX 256

enum mj_json_type {
    MJ_JSON_NULL,
    MJ_JSON_BOOL,
    MJ_JSON_NUMBER,
    MJ_JSON_STRING,
    MJ_JSON_ARRAY,
    MJ_JSON_OBJECT
};

/* Takes one value and the blanks around it off *rest; *raw is its text, from the first byte to the
 * last. The whole value is checked (RFC 8259; UTF-8 is not looked at). The type, MJ_ESYNTAX or
 * MJ_EDEPTH. */
int mj_json_take(struct mj_span *rest, struct mj_span *raw);
/* Steps into an array or object taken before: *rest is then what mj_json_element() and
 * mj_json_member() read. */
struct mj_span mj_json_inside(struct mj_span container);
/* Next element: its type, or MJ_ENOENT at the end. */
int mj_json_element(struct mj_span *rest, struct mj_span *raw);
/* Next member: the type of its value, or MJ_ENOENT at the end. *key is a raw string. */
int mj_json_member(struct mj_span *rest, struct mj_span *key, struct mj_span *raw);
/* Appends the text of a raw string taken before, escapes resolved, lone surrogates as U+FFFD. */
void mj_json_text(struct mj_span raw, struct mj_buf *out);
