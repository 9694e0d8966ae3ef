/* Which graphs a router has: added, replaced, paused, checked. */
#include "base/err.h"
#include "flow/operator.h"
#include "flow/parts.h"

#define LANE_PATIENCE_US 5000000 /* for a lane whose script moves to lane 0 */

static size_t member_of(const struct mj_router *r, const struct mj_graph *graph)
{
    size_t i = 0;
    while (i < r->plan.member_count && r->plan.members[i].graph != graph)
        i++;
    return i;
}

void mj__graph_adopt(struct mj_graph *graph, const struct mj_graph *old)
{
    for (size_t i = 0; i < graph->count; i++)
        for (size_t k = 0; graph->nodes[i]->op && k < old->count; k++)
            if (old->nodes[k]->op && !strcmp(old->nodes[k]->name, graph->nodes[i]->name))
                mj__operator_adopt(graph->nodes[i]->op, old->nodes[k]->op);
}

/* The graph is in the plan: it takes over from the old one. */
static void take_over(struct mj_router *r, struct mj_graph *old, struct mj_lane *old_lane,
                      struct mj_graph *graph, struct mj_lane *lane)
{
    if (old_lane)
        mj__lane_close(old_lane);
    if (lane) {
        r->lanes = mj_realloc(r->lanes, (r->lane_count + 1) * sizeof lane);
        r->lanes[r->lane_count++] = lane;
        if (old && !old_lane)
            mj__graph_adopt(graph, old);
        mj__lane_start(lane, r, old_lane, old_lane ? old : NULL);
        return;
    }
    mj_graph_ready(graph);
    if (old_lane) /* rare: the script moves to lane 0, which then must wait for it */
        mj__lane_finish(old_lane, LANE_PATIENCE_US);
    if (old)
        mj__graph_adopt(graph, old);
}

/* The readers of the graph's durable ends. */
static int find_readers(struct mj_router *r, struct mj_graph *graph, struct mj_buf *error)
{
    for (size_t i = 0; i < graph->count; i++) {
        struct mj_node *n = graph->nodes[i];
        if (!n->durable || !r->exit.readers)
            continue;
        MJ_AUTO_BUF why = {0};
        int err = mj_reader_get(r->exit.readers, graph->script, n->name, n->reader_kind, &n->reader,
                                &why);
        if (err) {
            mj_buf_printf(error, "%s:%u: %s", n->file, n->line, mj_buf_cstr(&why));
            return err;
        }
    }
    return 0;
}

/* The plan with `member` (unless it has no graph) at a place, instead of who is there or before it.
 */
static int try_plan(struct mj_router *r, size_t at, bool instead, struct mj__member member,
                    struct mj__plan *out, struct mj_buf *error)
{
    size_t n = r->plan.member_count;
    struct mj__member *members = mj_alloc((n + 1) * sizeof *members);
    if (n)
        memcpy(members, r->plan.members, n * sizeof *members);
    if (member.graph)
        members[at] = member;
    else if (instead)
        memmove(members + at, members + at + 1, (n - at - 1) * sizeof *members);
    n += (member.graph != NULL) - instead;
    return mj__plan_make(out, members, n, r->streams, error);
}

int mj_lane_check(struct mj_router *r, const struct mj_graph *old, struct mj_graph *graph,
                  struct mj_buf *error)
{
    size_t n = r->plan.member_count, at = old ? member_of(r, old) : n;
    struct mj__plan plan;
    /* The plan only asks whether there is a lane. */
    struct mj__member member = {.graph = graph, .lane = (struct mj_lane *)r};
    int err = try_plan(r, at, at < n, member, &plan, error);
    if (!err)
        mj__plan_deinit(&plan);
    return err;
}

int mj__router_swap(struct mj_router *r, struct mj_graph *old, struct mj_graph *graph,
                    struct mj_lane *lane, struct mj_buf *error)
{
    size_t n = r->plan.member_count, at = old ? member_of(r, old) : n;
    if (old && at == n) {
        mj_buf_printf(error, "%s: no such script is running", old->script);
        return MJ_ENOENT;
    }
    struct mj_lane *old_lane = old ? r->plan.members[at].lane : NULL;
    struct mj__plan plan;
    int err = try_plan(r, at, old != NULL, (struct mj__member){.graph = graph, .lane = lane}, &plan,
                       error);
    if (err)
        return err;
    if (graph && (err = find_readers(r, graph, error))) {
        mj__plan_deinit(&plan);
        return err;
    }
    mj__plan_deinit(&r->plan);
    r->plan = plan;
    if (graph && !lane) /* one in a lane is its lane's router's */
        mj__why_graph(r->why.why, graph);
    if (graph)
        take_over(r, old, old_lane, graph, lane);
    else if (old_lane)
        mj__lane_close(old_lane);
    return 0;
}

int mj_router_swap(struct mj_router *r, struct mj_graph *old, struct mj_graph *graph,
                   struct mj_buf *error)
{
    return mj__router_swap(r, old, graph, NULL, error);
}

void mj__router_forget(struct mj_router *r, struct mj_lane *lane)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->lane_count; i++) {
        if (r->lanes[i] == lane)
            continue;
        mj__lane_let_go(r->lanes[i], lane);
        r->lanes[kept++] = r->lanes[i];
    }
    r->lane_count = kept;
}

struct mj_graph *mj__router_graph(struct mj_router *r)
{
    return r->plan.member_count == 1 ? r->plan.members[0].graph : NULL;
}

int mj_router_add(struct mj_router *r, struct mj_graph *graph, struct mj_buf *error)
{
    return mj_router_swap(r, NULL, graph, error);
}

void mj_router_pause(struct mj_router *r, struct mj_graph *graph, bool paused, bool drop_main)
{
    size_t i = member_of(r, graph);
    if (i == r->plan.member_count)
        return;
    r->plan.members[i].pause_next = paused;
    r->plan.members[i].drop_next = drop_main;
    r->pauses_changed = true;
}
