#include "flow/lint.h"

#define CHAIN_MAX     64  /* matches that events pass one after the other; more are not judged */
#define NAMES_MAX     192 /* collections to try; with more, nothing is said */
#define NAME_TEXT_MAX 320

/* Matches one behind the other, and collections that could make a difference to them: those their
 * texts name, what could be below these, and one that nobody names. */
struct chain {
    const struct mj_match *matches[CHAIN_MAX];
    size_t count;
    struct mj_buf names; /* owned: NUL-terminated texts */
    size_t name_count;
    bool unsure; /* too much to tell, or texts that do not show everything */
};

static void add_name(struct chain *c, struct mj_span name, const char *behind)
{
    if (name.len > NAME_TEXT_MAX || c->name_count == NAMES_MAX) {
        c->unsure = true;
        return;
    }
    mj_buf_put(&c->names, name.ptr, name.len);
    mj_buf_puts(&c->names, behind);
    mj_buf_putc(&c->names, '\0');
    c->name_count++;
}

static bool in_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-';
}

static void add_names(struct chain *c, const char *text)
{
    c->unsure |= strstr(text, "…") != NULL;
    while (*text) {
        size_t n = 0;
        while (in_name(text[n]))
            n++;
        struct mj_span name = mj_span(text, n);
        if (n && memchr(text, '.', n)) {
            add_name(c, name, "");
            add_name(c, name, "x");
            add_name(c, name, ".x");
        }
        text += n ? n : 1;
    }
}

static void add_match(struct chain *c, const struct mj_node *n)
{
    if (!n->match)
        return;
    if (c->count == CHAIN_MAX || !n->match_text) {
        c->unsure = true;
        return;
    }
    c->matches[c->count++] = n->match;
    add_names(c, n->match_text);
}

/* All matches an event has passed when it leaves the node. In the main stream, nodes stand in one
 * line behind the root. */
static void collect(struct chain *c, const struct mj_node *n)
{
    for (; n; n = n->parent) {
        add_match(c, n);
        if (!n->parent || n->parent->type != MJ_NODE_MAIN)
            continue;
        for (size_t i = 0; n->parent->children[i] != n; i++)
            add_match(c, n->parent->children[i]);
    }
}

static bool holds(const struct chain *c, const struct mj_event *like)
{
    for (size_t i = 0; i < c->count; i++)
        if (!mj_match_may(c->matches[i], like))
            return false;
    return true;
}

static bool possible(const struct chain *c)
{
    struct mj_event like = {.kind = MJ_KIND_IDENTITY};
    if (c->unsure || holds(c, &like))
        return true;
    like.kind = MJ_KIND_ACCOUNT;
    if (holds(c, &like))
        return true;
    like.kind = MJ_KIND_COMMIT;
    const char *name = (const char *)c->names.ptr;
    for (size_t i = 0; i < c->name_count; i++, name += strlen(name) + 1) {
        like.collection = mj_str(name);
        for (int op = MJ_OP_CREATE; op <= MJ_OP_DELETE; op++) {
            like.op = (enum mj_op)op;
            if (holds(c, &like))
                return true;
        }
    }
    return false;
}

static bool can_get_through(const struct mj_node *n)
{
    struct chain c = {.count = 0};
    add_name(&c, MJ_SPAN("com.example.other"), "");
    if (n)
        collect(&c, n);
    bool yes = possible(&c);
    mj_buf_deinit(&c.names);
    return yes;
}

/* The node before this one on an event's way. */
static const struct mj_node *before(const struct mj_node *n)
{
    const struct mj_node *p = n->parent;
    if (!p || p->type != MJ_NODE_MAIN || p->children[0] == n)
        return p;
    size_t i = 1;
    while (p->children[i] != n)
        i++;
    return p->children[i - 1];
}

static size_t never_matches(const struct mj_graph *g, struct mj_buf *out)
{
    size_t found = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct mj_node *n = g->nodes[i];
        if (!n->match || can_get_through(n) || !can_get_through(before(n)))
            continue; /* the first node that lets nothing through is to blame */
        mj_buf_printf(out, "%s:%u: %s can match no event%s: %s\n", n->file, n->line, n->name,
                      n->parent ? " that gets there" : "", n->match_text);
        found++;
    }
    return found;
}

/* One durable end without a name is the only "each#1" there is; of several, each takes over
 * another's position when one before it comes or goes. Said once, of the second one. */
static size_t unnamed(const struct mj_graph *g, struct mj_buf *out)
{
    size_t found = 0;
    static const enum mj_node_type types[] = {MJ_NODE_EACH, MJ_NODE_SINK, MJ_NODE_HOOK};
    for (size_t t = 0; t < MJ_COUNT(types); t++) {
        const char *word = mj_node_type_name(types[t]);
        size_t len = strlen(word), n = 0;
        for (size_t i = 0; i < g->count && n < 2; i++) {
            const struct mj_node *node = g->nodes[i];
            bool numbered = strncmp(node->name, word, len) == 0 && node->name[len] == '#';
            if (!node->durable || node->type != types[t] || !numbered || ++n < 2)
                continue;
            mj_buf_printf(out,
                          "%s:%u: %s keeps its position under its number, and would go on at "
                          "another one's if you put one in front of it; name them (%s)\n",
                          node->file, node->line, node->name,
                          types[t] == MJ_NODE_HOOK ? "name = \"…\"" : ":as \"…\"");
            found++;
        }
    }
    return found;
}

static bool is_fed(const struct mj_graph *const *graphs, size_t count, const char *stream)
{
    for (size_t g = 0; g < count; g++)
        for (size_t i = 0; i < graphs[g]->count; i++)
            if (graphs[g]->nodes[i]->stream && !strcmp(graphs[g]->nodes[i]->stream, stream))
                return true;
    return false;
}

size_t mj_lint(const struct mj_graph *const *graphs, size_t count, struct mj_buf *out)
{
    size_t found = 0;
    for (size_t k = 0; k < count; k++) {
        const struct mj_graph *g = graphs[k];
        found += mj_graph_warn(g, out);
        found += never_matches(g, out);
        found += unnamed(g, out);
        for (size_t i = 0; i < g->count; i++)
            for (size_t s = 0; s < g->nodes[i]->source_count; s++) {
                const struct mj_node *n = g->nodes[i];
                if (is_fed(graphs, count, n->sources[s]))
                    continue;
                mj_buf_printf(out, "%s:%u: %s reads the stream %s, which no flow feeds\n", n->file,
                              n->line, n->name, n->sources[s]);
                found++;
            }
        if (g->count || g->tasks)
            continue;
        mj_buf_printf(out, "%s: draws nothing; start with jet.from or jet.main\n", g->script);
        found++;
    }
    return found;
}
