/* What the head of a web page says about the page: its title, and its <meta> elements, as link
 * cards need them. No parser of HTML: tags are found, their attributes read, and the rest is
 * skipped, which is what can be said of pages anyway.
 *
 *   <title>Moon &amp; Jet</title>  <meta property="og:title" content="Moon">
 *          └ content ───┘                          └ name ┘           └ content
 *
 * Comments, scripts and styles are passed over; <body> ends the walk. Any bytes will do. Nothing
 * here allocates but mj_html_text(). */
#pragma once

#include "base/bytes.h"

/* A walk over a page. */
struct mj_html {
    struct mj_span page; /* borrowed */
    size_t at;
};

struct mj_meta {
    struct mj_span name;    /* of a <meta>: its property, or its name; "title" of <title> */
    struct mj_span content; /* as it is written: with entities. Both borrowed from the page */
};

/* The next title or meta with a name and a content; false when there is no more. */
bool mj_html_next(struct mj_html *h, struct mj_meta *out);
/* Appends the text as people read it: entities decoded, runs of white space as one, none around
 * it. At most `max` bytes, cut between characters; what is no UTF-8 is taken as Latin-1. */
void mj_html_text(struct mj_span written, size_t max, struct mj_buf *out);
