#include "flow/graph.h"

#include "flow/operator.h"

struct mj_graph *mj_graph_new(const char *script)
{
    struct mj_graph *g = mj_calloc(1, sizeof *g);
    g->script = mj_strdup(script);
    return g;
}

void mj_graph_free(struct mj_graph *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->count; i++) {
        struct mj_node *n = g->nodes[i];
        mj_match_free(n->match);
        mj_operator_free(n->op);
        mj_patch_deinit(&n->patch);
        free(n->match_text);
        free(n->stream);
        free(n->plugin);
        free(n->target);
        for (size_t k = 0; k < n->source_count; k++)
            free(n->sources[k]);
        free(n->sources);
        free(n->children);
        free(n->file);
        free(n->name);
        free(n);
    }
    free(g->nodes);
    free(g->script);
    free(g);
}

const char *mj_node_type_name(enum mj_node_type type)
{
    static const char *const names[] = {"main",  "from",  "where", "map",    "tap",    "stream",
                                        "print", "strip", "keep",  "redact", "sample", "dedupe",
                                        "limit", "batch", "each",  "sink",   "webhook"};
    return names[type];
}

struct mj_node *mj_graph_add(struct mj_graph *g, enum mj_node_type type, struct mj_node *parent,
                             const char *file, unsigned line)
{
    if (g->count == MJ_NODES_MAX)
        return NULL;
    if (g->count == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 16;
        g->nodes = mj_realloc(g->nodes, g->cap * sizeof *g->nodes);
    }
    unsigned number = 1;
    for (size_t i = 0; i < g->count; i++)
        number += g->nodes[i]->type == type;
    struct mj_buf name = {0};
    mj_buf_puts(&name, mj_node_type_name(type));
    if (type != MJ_NODE_MAIN)
        mj_buf_printf(&name, "#%u", number);
    mj_buf_cstr(&name);

    struct mj_node *n = mj_calloc(1, sizeof *n);
    n->type = type;
    n->file = mj_strdup(file);
    n->line = line;
    n->name = (char *)name.ptr;
    n->parent = parent;
    if (parent) {
        if (parent->child_count == parent->child_cap) {
            parent->child_cap = parent->child_cap ? parent->child_cap * 2 : 2;
            parent->children = mj_realloc(parent->children, parent->child_cap * sizeof n);
        }
        parent->children[parent->child_count++] = n;
    }
    return g->nodes[g->count++] = n;
}

void mj_graph_read(struct mj_node *n, const char *stream)
{
    n->sources = mj_realloc(n->sources, (n->source_count + 1) * sizeof *n->sources);
    n->sources[n->source_count++] = mj_strdup(stream);
}

bool mj_node_reads_record(const struct mj_node *n)
{
    if (n->fn || (n->op && mj_operator_reads_record(n->op)) ||
        (n->type == MJ_NODE_WHERE && mj_match_reads_record(n->match)))
        return true;
    for (size_t i = 0; i < n->child_count; i++)
        if (mj_node_reads_record(n->children[i]))
            return true;
    return false;
}

uint64_t mj_node_feeds(const struct mj_node *n)
{
    uint64_t streams = n->stream ? UINT64_C(1) << n->bit : 0;
    for (size_t i = 0; i < n->child_count; i++)
        streams |= mj_node_feeds(n->children[i]);
    return streams;
}

void mj_graph_ready(struct mj_graph *g)
{
    char script[256], name[256];
    mj_metric_label(mj_str(g->script), script, sizeof script);
    for (size_t i = 0; i < g->count; i++) {
        struct mj_node *n = g->nodes[i];
        mj_metric_label(mj_str(n->name), name, sizeof name);
        const struct {
            struct mj_metric **metric;
            const char *family, *help;
        } series[] = {
            {&n->in, "moonjet_node_events_in_total", "Events that reached a node."},
            {&n->passed, "moonjet_node_events_out_total", "Events a node let through."},
            {&n->dropped, "moonjet_node_events_dropped_total", "Events a node dropped."},
            {&n->errors, "moonjet_node_errors_total", "Errors in a node's function."},
            {&n->ns, "moonjet_node_nanoseconds_total",
             "Time spent in a node's function; of nodes that run in C every 64th event is timed "
             "and counts for 64."},
        };
        for (size_t s = 0; s < MJ_COUNT(series); s++)
            *series[s].metric = mj_metric(series[s].family, MJ_COUNTER, series[s].help,
                                          "script=\"%s\",node=\"%s\"", script, name);
    }
}

static void describe(const struct mj_node *n, struct mj_buf *out)
{
    const char *type = mj_node_type_name(n->type);
    mj_buf_puts(out, n->name);
    if (strncmp(n->name, type, strlen(type)) != 0) /* :as has said the name */
        mj_buf_printf(out, " (%s)", type);
    if (n->match_text)
        mj_buf_printf(out, " %s", n->match_text);
    if (n->op)
        mj_buf_printf(out, " %s", mj_operator_text(n->op));
    for (size_t i = 0; i < n->source_count; i++)
        mj_buf_printf(out, "%s stream %s", i ? "," : "", n->sources[i]);
    if (n->stream)
        mj_buf_printf(out, " → /stream/%s/subscribe", n->stream);
    if (n->type == MJ_NODE_PRINT)
        mj_buf_puts(out, " → stdout");
    if (n->plugin)
        mj_buf_printf(out, " → plug-in %s", n->plugin);
    if (n->target)
        mj_buf_printf(out, " → %s", n->target);
}

static void print_node(const struct mj_node *n, unsigned depth, struct mj_buf *out)
{
    MJ_AUTO_BUF text = {0};
    mj_buf_printf(&text, "%*s", (int)(2 + 2 * depth), "");
    describe(n, &text);
    int wide = 56; /* columns, whereas printf counts bytes */
    for (size_t i = 0; i < text.len; i++)
        wide += (text.ptr[i] & 0xc0) == 0x80;
    mj_buf_printf(out, "%-*s  %s:%u\n", wide, mj_buf_cstr(&text), n->file, n->line);
    /* Main is one line of nodes, so it is not drawn as branches; a flow goes deeper per step. */
    for (size_t i = 0; i < n->child_count; i++)
        print_node(n->children[i], depth + 1, out);
}

void mj_graph_print(const struct mj_graph *g, struct mj_buf *out)
{
    mj_buf_printf(out, "%s\n", g->script);
    for (size_t i = 0; i < g->count; i++)
        if (!g->nodes[i]->parent)
            print_node(g->nodes[i], 0, out);
    if (!g->main)
        mj_buf_puts(out, "  main is left as it is → /subscribe\n");
}

static size_t index_of(const struct mj_graph *g, const struct mj_node *n)
{
    size_t i = 0;
    while (g->nodes[i] != n)
        i++;
    return i;
}

void mj_graph_print_json(const struct mj_graph *g, struct mj_buf *out)
{
    mj_buf_puts(out, "{\"script\":");
    mj_buf_put_json(out, mj_str(g->script));
    mj_buf_puts(out, ",\"nodes\":[");
    for (size_t i = 0; i < g->count; i++) {
        const struct mj_node *n = g->nodes[i];
        mj_buf_printf(out, "%s{\"name\":", i ? "," : "");
        mj_buf_put_json(out, mj_str(n->name));
        mj_buf_printf(out, ",\"type\":\"%s\",\"file\":", mj_node_type_name(n->type));
        mj_buf_put_json(out, mj_str(n->file));
        mj_buf_printf(out, ",\"line\":%u", n->line);
        if (n->parent)
            mj_buf_printf(out, ",\"parent\":%zu", index_of(g, n->parent));
        if (n->match_text) {
            mj_buf_puts(out, ",\"match\":");
            mj_buf_put_json(out, mj_str(n->match_text));
        }
        if (n->op) {
            mj_buf_puts(out, ",\"options\":");
            mj_buf_put_json(out, mj_str(mj_operator_text(n->op)));
        }
        for (size_t k = 0; k < n->source_count; k++) {
            mj_buf_puts(out, k ? "," : ",\"sources\":[");
            mj_buf_put_json(out, mj_str(n->sources[k]));
            mj_buf_puts(out, k + 1 == n->source_count ? "]" : "");
        }
        if (n->stream) {
            mj_buf_puts(out, ",\"stream\":");
            mj_buf_put_json(out, mj_str(n->stream));
        }
        if (n->plugin) {
            mj_buf_puts(out, ",\"plugin\":");
            mj_buf_put_json(out, mj_str(n->plugin));
        }
        if (n->target) {
            mj_buf_puts(out, ",\"target\":");
            mj_buf_put_json(out, mj_str(n->target));
        }
        mj_buf_putc(out, '}');
    }
    mj_buf_puts(out, "]}");
}

size_t mj_graph_warn(const struct mj_graph *g, struct mj_buf *out)
{
    size_t warnings = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct mj_node *n = g->nodes[i];
        bool on_main = n->type == MJ_NODE_MAIN || (n->parent && n->parent->type == MJ_NODE_MAIN);
        bool ends = n->type == MJ_NODE_TAP || n->type == MJ_NODE_STREAM ||
                    n->type == MJ_NODE_PRINT || n->type == MJ_NODE_EACH ||
                    n->type == MJ_NODE_SINK || n->type == MJ_NODE_HOOK;
        if (on_main || ends || n->child_count)
            continue;
        mj_buf_printf(out, "%s:%u: what passes %s ends nowhere; give it a :to(…) or a :tap(…)\n",
                      n->file, n->line, n->name);
        warnings++;
    }
    return warnings;
}
