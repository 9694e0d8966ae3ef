/* Short posts in several languages for the simulated network, with links, mentions and hashtags
 * whose facets count UTF-8 bytes, as the protocol wants. */
#pragma once

#include "base/bytes.h"
#include "source/sim_rng.h"

#define MJ_SIM_FACETS_MAX 4

enum mj_sim_facet_type { MJ_SIM_LINK, MJ_SIM_MENTION, MJ_SIM_TAG };

struct mj_sim_facet {
    enum mj_sim_facet_type type;
    uint32_t start, end; /* bytes of the text, end exclusive */
    char value[128];     /* URI, DID, or tag without '#' */
};

struct mj_sim_text {
    struct mj_buf text; /* owned */
    const char *lang;   /* static */
    struct mj_sim_facet facets[MJ_SIM_FACETS_MAX];
    size_t facet_count;
};

/* Makes one post. A mention names `handle` and `did` (borrowed for the call). Reuses out's buffer;
 * start from {0}, end with mj_buf_deinit(&out->text). */
void mj_sim_text(struct mj_rng *rng, struct mj_span handle, struct mj_span did,
                 struct mj_sim_text *out);
/* A few words without facets: image descriptions, titles, profile descriptions. */
void mj_sim_phrase(struct mj_rng *rng, struct mj_buf *out);
/* A first name, lower case, ASCII. */
const char *mj_sim_name(struct mj_rng *rng);
