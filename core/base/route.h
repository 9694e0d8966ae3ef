/* Routes that scripts serve: a method and a path, as written in jet.serve("GET /path").
 *
 *   "GET /hello"                      that path
 *   "POST /hooks/", a "*" behind it   every path that begins with /hooks/
 *   "GET /a%20b"                      "/a b": written as in an address
 *
 * A HEAD request is answered by the route for GET. Of several that fit, a whole path beats a
 * prefix, and a longer prefix a shorter one. Spans are borrowed from the text. */
#pragma once

#include "base/bytes.h"

#define MJ_ROUTE_MAX 1024 /* bytes of a route's text */

struct mj_route {
    struct mj_span method; /* GET, POST, PUT, PATCH or DELETE */
    struct mj_span path;   /* without the star, encoded as it was written */
    bool prefix;
};

/* 0 or MJ_ESYNTAX with a sentence appended to `error` (NULL: none). */
int mj_route_parse(struct mj_span text, struct mj_route *out, struct mj_buf *error);
/* How well the route fits a percent-decoded path, whatever the method: 0 when it does not; of two,
 * the larger one is the route to take. */
size_t mj_route_fit(const struct mj_route *r, struct mj_span path);
/* Is the request's method the route's? HEAD counts as GET. */
bool mj_route_takes(const struct mj_route *r, struct mj_span method);

/* A look for the route of a request. All of one server's routes are shown to it, one by one. */
struct mj_route_look {
    struct mj_span method, path; /* the path percent-decoded */
    size_t fit;                  /* of the best that takes the method; 0: there is none yet */
    bool known;                  /* one fits, whatever its method */
    struct mj_buf *allow;        /* methods of all that fit are appended, ", " before each */
};

/* True when the route is the best so far. */
bool mj_route_look_at(struct mj_route_look *look, const struct mj_route *r);
