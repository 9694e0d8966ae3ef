/* What scripts publish about the DIDs they serve, as bind_serve.c answers with it: DID documents
 * and the list of feeds. Each VM owns what its script published (bind_publish.c). Internal to
 * core/script. */
#pragma once

#include "script/scripts.h"

#define MJ_PUBLISHED_ROUTES 2

struct mj_route_request;

/* The routes that are answered from what is published; static texts. Returns how many. */
size_t mj__published_routes(const struct mj_scripts *s, const char *out[MJ_PUBLISHED_ROUTES]);
/* True with the JSON in `out`, when one of these routes fits better than `best`. */
bool mj__published_answer(const struct mj_scripts *s, const struct mj_route_request *q, size_t best,
                          struct mj_buf *out);
/* In mj_vm_free(). */
void mj__published_free(struct mj_vm *vm);
