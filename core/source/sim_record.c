#include "source/sim_record.h"

#include "atproto/cbor.h"

const char *const mj_sim_nsid[] = {
    [MJ_SIM_LIKE] = "app.bsky.feed.like",
    [MJ_SIM_POST] = "app.bsky.feed.post",
    [MJ_SIM_REPOST] = "app.bsky.feed.repost",
    [MJ_SIM_FOLLOW] = "app.bsky.graph.follow",
    [MJ_SIM_BLOCK] = "app.bsky.graph.block",
    [MJ_SIM_LISTITEM] = "app.bsky.graph.listitem",
    [MJ_SIM_THREADGATE] = "app.bsky.feed.threadgate",
    [MJ_SIM_PROFILE] = "app.bsky.actor.profile",
    [MJ_SIM_READING] = "com.example.sensor.reading",
};

/* Keys below are written in canonical order: shorter first, then bytewise. */
static void key(struct mj_buf *b, const char *k) { mj_cbor_put_text(b, mj_str(k)); }

static void text(struct mj_buf *b, const char *k, struct mj_span v)
{
    key(b, k);
    mj_cbor_put_text(b, v);
}

static void integer(struct mj_buf *b, const char *k, int64_t v)
{
    key(b, k);
    mj_cbor_put_int(b, v);
}

static void ref(struct mj_buf *b, const char *k, const struct mj_sim_ref *r)
{
    key(b, k);
    mj_cbor_put_map(b, 2);
    key(b, "cid"); /* a strong reference holds the CID as text */
    char cid[MJ_CID_TEXT_LEN];
    mj_cbor_put_text(b, mj_span(cid, mj_cid_text(mj_span(r->cid.bytes, MJ_CID_LEN), cid)));
    text(b, "uri", mj_str(r->uri));
}

static void blob(struct mj_rng *rng, struct mj_buf *b, const char *k)
{
    uint8_t cid[MJ_CID_LEN] = {0x01, 0x55, 0x12, 0x20};
    for (int i = 4; i < MJ_CID_LEN; i += 8) {
        uint64_t noise = mj_rng_u64(rng);
        memcpy(cid + i, &noise, 8);
    }
    key(b, k);
    mj_cbor_put_map(b, 4);
    key(b, "ref");
    mj_cbor_put_link(b, mj_span(cid, sizeof cid));
    integer(b, "size", 20000 + mj_rng_below(rng, 900000));
    text(b, "$type", MJ_SPAN("blob"));
    text(b, "mimeType", mj_rng_chance(rng, 8000) ? MJ_SPAN("image/jpeg") : MJ_SPAN("image/png"));
}

void mj_sim_put_like(struct mj_rng *rng, const struct mj_sim_ref *subject, struct mj_span created,
                     struct mj_buf *b)
{
    bool via = mj_rng_chance(rng, 300);
    mj_cbor_put_map(b, via ? 4 : 3);
    if (via)
        ref(b, "via", subject);
    text(b, "$type", mj_str(mj_sim_nsid[MJ_SIM_LIKE]));
    ref(b, "subject", subject);
    text(b, "createdAt", created);
}

void mj_sim_put_repost(const struct mj_sim_ref *subject, struct mj_span created, struct mj_buf *b)
{
    mj_cbor_put_map(b, 3);
    text(b, "$type", mj_str(mj_sim_nsid[MJ_SIM_REPOST]));
    ref(b, "subject", subject);
    text(b, "createdAt", created);
}

void mj_sim_put_graph(enum mj_sim_collection c, struct mj_span did, struct mj_span created,
                      struct mj_buf *b)
{
    mj_cbor_put_map(b, 3);
    text(b, "$type", mj_str(mj_sim_nsid[c]));
    text(b, "subject", did);
    text(b, "createdAt", created);
}

void mj_sim_put_listitem(struct mj_span list_uri, struct mj_span did, struct mj_span created,
                         struct mj_buf *b)
{
    mj_cbor_put_map(b, 4);
    text(b, "list", list_uri);
    text(b, "$type", mj_str(mj_sim_nsid[MJ_SIM_LISTITEM]));
    text(b, "subject", did);
    text(b, "createdAt", created);
}

void mj_sim_put_threadgate(struct mj_rng *rng, const char *post_uri, struct mj_span created,
                           struct mj_buf *b)
{
    bool nobody = mj_rng_chance(rng, 5000);
    mj_cbor_put_map(b, 5);
    text(b, "post", mj_str(post_uri));
    text(b, "$type", mj_str(mj_sim_nsid[MJ_SIM_THREADGATE]));
    key(b, "allow");
    mj_cbor_put_array(b, nobody ? 0 : 1);
    if (!nobody) {
        mj_cbor_put_map(b, 1);
        text(b, "$type", MJ_SPAN("app.bsky.feed.threadgate#mentionRule"));
    }
    text(b, "createdAt", created);
    key(b, "hiddenReplies");
    mj_cbor_put_array(b, 0);
}

static void facets(const struct mj_sim_text *t, struct mj_buf *b)
{
    static const char *const types[] = {[MJ_SIM_LINK] = "app.bsky.richtext.facet#link",
                                        [MJ_SIM_MENTION] = "app.bsky.richtext.facet#mention",
                                        [MJ_SIM_TAG] = "app.bsky.richtext.facet#tag"};
    static const char *const fields[] = {
        [MJ_SIM_LINK] = "uri", [MJ_SIM_MENTION] = "did", [MJ_SIM_TAG] = "tag"};
    key(b, "facets");
    mj_cbor_put_array(b, t->facet_count);
    for (size_t i = 0; i < t->facet_count; i++) {
        const struct mj_sim_facet *f = &t->facets[i];
        mj_cbor_put_map(b, 2);
        key(b, "index");
        mj_cbor_put_map(b, 2);
        integer(b, "byteEnd", f->end);
        integer(b, "byteStart", f->start);
        key(b, "features");
        mj_cbor_put_array(b, 1);
        mj_cbor_put_map(b, 2);
        text(b, fields[f->type], mj_str(f->value));
        text(b, "$type", mj_str(types[f->type]));
    }
}

static void images(struct mj_rng *rng, struct mj_buf *b)
{
    MJ_AUTO_BUF alt = {0};
    uint32_t n = 1 + mj_rng_below(rng, 4);
    mj_cbor_put_map(b, 2);
    text(b, "$type", MJ_SPAN("app.bsky.embed.images"));
    key(b, "images");
    mj_cbor_put_array(b, n);
    for (uint32_t i = 0; i < n; i++) {
        alt.len = 0;
        if (mj_rng_chance(rng, 4000))
            mj_sim_phrase(rng, &alt);
        mj_cbor_put_map(b, 3);
        text(b, "alt", mj_buf_span(&alt));
        blob(rng, b, "image");
        key(b, "aspectRatio");
        mj_cbor_put_map(b, 2);
        integer(b, "width", 600 + mj_rng_below(rng, 3000));
        integer(b, "height", 600 + mj_rng_below(rng, 3000));
    }
}

static void external(struct mj_rng *rng, struct mj_buf *b)
{
    MJ_AUTO_BUF title = {0}, uri = {0};
    mj_sim_phrase(rng, &title);
    mj_buf_printf(&uri, "https://news.example.net/%u", mj_rng_below(rng, 1000000));
    mj_cbor_put_map(b, 2);
    text(b, "$type", MJ_SPAN("app.bsky.embed.external"));
    key(b, "external");
    mj_cbor_put_map(b, 4);
    text(b, "uri", mj_buf_span(&uri));
    blob(rng, b, "thumb");
    text(b, "title", mj_buf_span(&title));
    text(b, "description", (struct mj_span){0});
}

void mj_sim_put_post(struct mj_rng *rng, const struct mj_sim_post *post, struct mj_span created,
                     struct mj_buf *b)
{
    const struct mj_sim_text *t = post->text;
    enum { NONE, IMAGES, EXTERNAL, QUOTE } embed = NONE;
    uint32_t dice = mj_rng_below(rng, 100);
    if (post->quote)
        embed = QUOTE;
    else if (dice < 12)
        embed = IMAGES;
    else if (dice < 20)
        embed = EXTERNAL;
    bool tags = mj_rng_chance(rng, 100), labels = mj_rng_chance(rng, 100);
    mj_cbor_put_map(b, 4 + tags + labels + (embed != NONE) + (post->parent != NULL) +
                           (t->facet_count != 0));
    if (tags) {
        key(b, "tags");
        mj_cbor_put_array(b, 1);
        mj_cbor_put_text(b, MJ_SPAN("moonjet"));
    }
    text(b, "text", mj_buf_span(&t->text));
    text(b, "$type", mj_str(mj_sim_nsid[MJ_SIM_POST]));
    if (embed != NONE)
        key(b, "embed");
    if (embed == IMAGES)
        images(rng, b);
    if (embed == EXTERNAL)
        external(rng, b);
    if (embed == QUOTE) {
        mj_cbor_put_map(b, 2);
        text(b, "$type", MJ_SPAN("app.bsky.embed.record"));
        ref(b, "record", post->quote);
    }
    key(b, "langs");
    mj_cbor_put_array(b, 1);
    mj_cbor_put_text(b, mj_str(t->lang));
    if (post->parent) {
        key(b, "reply");
        mj_cbor_put_map(b, 2);
        ref(b, "root", post->root);
        ref(b, "parent", post->parent);
    }
    if (t->facet_count)
        facets(t, b);
    if (labels) {
        key(b, "labels");
        mj_cbor_put_map(b, 2);
        text(b, "$type", MJ_SPAN("com.atproto.label.defs#selfLabels"));
        key(b, "values");
        mj_cbor_put_array(b, 1);
        mj_cbor_put_map(b, 1);
        text(b, "val", MJ_SPAN("graphic-media"));
    }
    text(b, "createdAt", created);
}

void mj_sim_put_profile(struct mj_rng *rng, struct mj_span name, struct mj_span created,
                        struct mj_buf *b)
{
    MJ_AUTO_BUF description = {0};
    mj_sim_phrase(rng, &description);
    bool avatar = mj_rng_chance(rng, 8000);
    mj_cbor_put_map(b, avatar ? 5 : 4);
    text(b, "$type", mj_str(mj_sim_nsid[MJ_SIM_PROFILE]));
    if (avatar)
        blob(rng, b, "avatar");
    text(b, "createdAt", created);
    text(b, "description", mj_buf_span(&description));
    text(b, "displayName", name);
}

void mj_sim_put_reading(struct mj_rng *rng, struct mj_span created, struct mj_buf *b)
{
    /* Where encodings change width, up to what a JavaScript consumer can hold: 2^53 - 1. */
    static const int64_t edges[] = {0,
                                    -1,
                                    23,
                                    24,
                                    255,
                                    256,
                                    65536,
                                    UINT32_MAX,
                                    INT64_C(-4294967297),
                                    INT64_C(9007199254740991),
                                    INT64_C(-9007199254740991)};
    uint8_t raw[24];
    for (size_t i = 0; i < sizeof raw; i += 8) {
        uint64_t noise = mj_rng_u64(rng);
        memcpy(raw + i, &noise, 8);
    }
    mj_cbor_put_map(b, 9);
    key(b, "raw");
    mj_cbor_put_bytes(b, mj_span(raw, mj_rng_below(rng, sizeof raw + 1)));
    key(b, "sum");
    mj_cbor_put_int(b, edges[mj_rng_below(rng, MJ_COUNT(edges))]);
    key(b, "none");
    mj_cbor_put_null(b);
    text(b, "$type", mj_str(mj_sim_nsid[MJ_SIM_READING]));
    key(b, "empty");
    mj_cbor_put_map(b, 0);
    key(b, "mixed");
    mj_cbor_put_array(b, 4);
    mj_cbor_put_int(b, 1);
    mj_cbor_put_null(b);
    mj_cbor_put_bool(b, true);
    mj_cbor_put_array(b, 0);
    key(b, "valid");
    mj_cbor_put_bool(b, mj_rng_chance(rng, 5000));
    text(b, "createdAt", created);
    integer(b, "microvolts", (int64_t)mj_rng_below(rng, 2000000) - 1000000);
}
