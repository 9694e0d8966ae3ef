/* The graph a script draws: where events come from, what is done to them, where they end.
 *
 *   main ─▶ where#1 ─▶ map#1                       the main stream, one line of nodes
 *   from#1 ─┬▶ where#2 ─▶ stream#1 (lua)           a flow; a node with several children branches
 *           └▶ tap#1
 *
 * A node is a place in a script (file and line) with a name that logs and metrics use. Nodes that
 * run the user's code call `fn`, which the script room provides; everything else the router does
 * itself, so this room knows no Lua.
 *
 * A graph owns its nodes. While a router has it, it must not change, and must live. */
#pragma once

#include "base/metrics.h"
#include "event/kept.h"
#include "event/patch.h"
#include "journal/reader.h"
#include "match/match.h"

#define MJ_NODES_MAX 1000 /* per script: enough for any hand-written one, and bounds recursion */

enum mj_node_type {
    MJ_NODE_MAIN,   /* root: the main stream as the scripts before left it */
    MJ_NODE_FROM,   /* root: events that match */
    MJ_NODE_WHERE,  /* passes or drops, by match or by fn */
    MJ_NODE_MAP,    /* fn edits, passes or drops */
    MJ_NODE_TAP,    /* fn looks */
    MJ_NODE_STREAM, /* end: into a named stream */
    MJ_NODE_PRINT,  /* end: JSON lines on stdout */
    MJ_NODE_STRIP,  /* edits without the user's code: removes paths */
    MJ_NODE_KEEP,   /* removes all but paths */
    MJ_NODE_REDACT, /* replaces a text */
    MJ_NODE_SAMPLE, /* passes a fixed part */
    MJ_NODE_DEDUPE, /* drops what came before */
    MJ_NODE_LIMIT,  /* drops what is too much */
    MJ_NODE_BATCH,  /* end for the router: fn collects; its children get lists from there */
    MJ_NODE_EACH,   /* end for the router: fn hands a kept event to a task */
    MJ_NODE_SINK,   /* end for the router: fn hands it to a plug-in */
    MJ_NODE_HOOK    /* end for the router: its reader's owner posts it */
};

enum mj_verdict { MJ_VERDICT_DROP, MJ_VERDICT_PASS, MJ_VERDICT_ERROR };

struct mj_node;
/* Runs the node's function on an event. A map node leaves its edits in node->patch. Errors are
 * reported by the function itself; the router counts them. Batch, each and sink nodes: the event
 * is theirs to keep a copy of; DROP says that there was no room. */
typedef enum mj_verdict (*mj_node_fn)(struct mj_node *node, const struct mj_event *ev);

/* Finds the key of a dedupe or limit node whose `by` is the user's function: PASS with *hash, DROP
 * when the event has none, ERROR. */
typedef enum mj_verdict (*mj_key_fn)(struct mj_node *node, const struct mj_event *ev,
                                     uint64_t *hash);

struct mj_operator; /* flow/operator.h */

/* Behind a batch: the node's function for lists of events, which are borrowed (take references).
 * The node counts what reaches it itself. */
typedef void (*mj_list_fn)(struct mj_node *node, struct mj_kept *const *events, size_t n);

struct mj_node {
    enum mj_node_type type;
    unsigned line;
    char *file;             /* owned: as the script's messages name it */
    char *name;             /* owned: "where#1", or what :as() said */
    struct mj_match *match; /* owned; from and where, else NULL */
    char *match_text;       /* owned: the match as people wrote it, else NULL */
    mj_node_fn fn;          /* where, map, tap, batch, each, sink; NULL for a where by match */
    mj_list_fn list;        /* each, sink; NULL for all others */
    mj_key_fn key;          /* dedupe, limit by a function, else NULL */
    void *ctx;              /* borrowed: fn's or key's own */
    int ref;                /* fn's or key's own */
    struct mj_operator *op; /* owned; strip … limit, else NULL */
    char *stream;           /* owned: name of the stream it feeds, else NULL */
    int bit;                /* of that stream, once added to a router */
    char *plugin;           /* owned: name of the plug-in it sends to, else NULL */
    char *target;           /* owned: the origin of a webhook's URL, else NULL */
    bool durable;           /* an end that may have a durable reader … */
    enum mj_reader_kind reader_kind;
    struct mj_reader *reader; /* … and has one, borrowed, once it is live in a router that has a
                                 registry. Events for it are then noted in the journal, and neither
                                 fn nor list is called */
    char **sources;           /* owned: names of the streams a from node reads; it then has no
                                 match */
    size_t source_count;
    uint64_t source_bits;      /* of these streams, once added to a router */
    struct mj_node *parent;    /* borrowed; NULL for roots */
    struct mj_node **children; /* owned array of borrowed nodes, in order */
    size_t child_count, child_cap;
    /* what edits: map, strip, keep, redact */
    struct mj_patch patch;
    struct mj_event out; /* the event with the patch, during one event */
    /* process-wide series; only the router's thread adds to them */
    struct mj_metric *in, *passed, *dropped, *errors, *ns;
    uint32_t place;     /* flow/why.h: the node's number there, shifted */
    const char *reason; /* borrowed until the next event: why fn failed, for flow/why.h; or NULL */
};

struct mj_graph {
    char *script;           /* owned: label in logs and metrics */
    struct mj_node **nodes; /* owned, in the order they were declared */
    size_t count, cap;
    bool tasks;           /* it has timers, routes or tasks of its own beside the flows */
    struct mj_node *main; /* borrowed; NULL when the script leaves main alone. Its children are
                             one line: each works on what the one before let through. */
};

struct mj_graph *mj_graph_new(const char *script);
void mj_graph_free(struct mj_graph *g);
/* Adds a node behind `parent` (NULL for a root), named after its type and number. NULL when the
 * graph is full. */
struct mj_node *mj_graph_add(struct mj_graph *g, enum mj_node_type type, struct mj_node *parent,
                             const char *file, unsigned line);
/* A from node reads one more stream instead of what comes from the network. */
void mj_graph_read(struct mj_node *n, const char *stream);
/* "main", "from", "where", "map", "tap", "stream", "print", … */
const char *mj_node_type_name(enum mj_node_type type);
/* True when this node or one behind it looks into the record, which must then be sound. What the
 * match of a from node asks is not counted. */
bool mj_node_reads_record(const struct mj_node *n);
/* The streams that the nodes behind this one feed: a bit for each. */
uint64_t mj_node_feeds(const struct mj_node *n);
/* Makes the nodes' metrics: after the last mj_graph_add(), before the first event. */
void mj_graph_ready(struct mj_graph *g);

/* The graph for people, one node a line, indented by depth. */
void mj_graph_print(const struct mj_graph *g, struct mj_buf *out);
/* The same as one JSON object. */
void mj_graph_print_json(const struct mj_graph *g, struct mj_buf *out);
/* Appends a line per node whose events end nowhere; returns how many there are. */
size_t mj_graph_warn(const struct mj_graph *g, struct mj_buf *out);
