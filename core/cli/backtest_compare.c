#include "cli/backtest.h"

static uint32_t row_of(struct mj__comparison *c, const struct mj__outlet *outlet)
{
    for (size_t i = 0; i < c->row_count; i++)
        if (strcmp(c->rows[i].name, outlet->name) == 0)
            return (uint32_t)i;
    c->rows = mj_realloc(c->rows, (c->row_count + 1) * sizeof *c->rows);
    c->rows[c->row_count] = (struct mj__row){.name = outlet->name, .main = outlet->main};
    return (uint32_t)c->row_count++;
}

void mj__comparison_init(struct mj__comparison *c, const struct mj__side *side,
                         struct mj__other *other, size_t examples)
{
    size_t n = mj__side_outlets(side), m = other ? mj__other_outlets(other) : 0;
    *c = (struct mj__comparison){.other = other, .examples = examples, .old_ended = !other};
    c->of_new = mj_calloc(n + 1, sizeof *c->of_new);
    c->of_old = mj_calloc(m + 1, sizeof *c->of_old);
    for (size_t i = 0; i < n; i++)
        c->of_new[i] = row_of(c, mj__side_outlet(side, i));
    for (size_t i = 0; i < m; i++)
        c->of_old[i] = row_of(c, mj__other_outlet(other, i));
    if (other)
        c->old_ended = !mj__other_next(other, &c->old);
}

void mj__comparison_deinit(struct mj__comparison *c)
{
    for (size_t i = 0; i < c->row_count; i++)
        for (size_t k = 0; k < MJ__CHANGES; k++) {
            struct mj__row *row = &c->rows[i];
            for (size_t e = 0; e < row->example_count[k]; e++) {
                free(row->examples[k][e].uri);
                free(row->examples[k][e].text);
            }
            free(row->examples[k]);
        }
    free(c->rows);
    free(c->of_new);
    free(c->of_old);
}

static void note(struct mj__comparison *c, struct mj__row *row, enum mj__change change,
                 const struct mj__outcome *o)
{
    row->changes[change]++;
    size_t n = row->example_count[change];
    if (n >= c->examples)
        return;
    if (!row->examples[change])
        row->examples[change] = mj_calloc(c->examples, sizeof(struct mj__example));
    struct mj_span text = o->text;
    text.len = text.len < 300 ? text.len : 300;
    row->examples[change][n] = (struct mj__example){mj_span_dup(o->uri), mj_span_dup(text)};
    row->example_count[change]++;
}

static const struct mj__hit *find(const struct mj__outcome *o, const uint32_t *rows, uint32_t row)
{
    for (size_t i = 0; o && i < o->count; i++)
        if (rows[o->hits[i].outlet] == row)
            return &o->hits[i];
    return NULL;
}

/* One row, of which at least one side tells something. */
static void compare(struct mj__comparison *c, uint32_t i, const struct mj__hit *a,
                    const struct mj__hit *b, const struct mj__outcome *o)
{
    struct mj__row *row = &c->rows[i];
    /* The main stream is told of where it was not left alone. */
    bool in_new = row->main ? !a || !a->dropped : a != NULL;
    bool in_old = row->main ? !b || !b->dropped : b != NULL;
    row->reached[0] += row->main != in_new;
    row->reached[1] += row->main != in_old;
    uint64_t new_version = a ? a->digest : 0, old_version = b ? b->digest : 0;
    if (!c->other) {
        if (!row->main)
            note(c, row, MJ__NEWLY, o);
        else
            note(c, row, in_new ? MJ__CHANGED : MJ__NO_LONGER, o);
    } else if (in_new && !in_old) {
        note(c, row, MJ__NEWLY, o);
    } else if (!in_new && in_old) {
        note(c, row, MJ__NO_LONGER, o);
    } else if (in_new && new_version != old_version) {
        note(c, row, MJ__CHANGED, o);
    }
}

/* What both sides have of one event; one of the two may have nothing. */
static void pair(struct mj__comparison *c, const struct mj__outcome *a, const struct mj__outcome *b)
{
    for (size_t i = 0; a && i < a->count; i++) {
        uint32_t row = c->of_new[a->hits[i].outlet];
        compare(c, row, &a->hits[i], find(b, c->of_old, row), a);
    }
    for (size_t i = 0; b && i < b->count; i++) {
        uint32_t row = c->of_old[b->hits[i].outlet];
        if (!find(a, c->of_new, row))
            compare(c, row, NULL, &b->hits[i], b);
    }
}

/* Everything of the old side before that ordinal. */
static void catch_up(struct mj__comparison *c, uint64_t ordinal)
{
    while (!c->old_ended && c->old.ordinal < ordinal) {
        pair(c, NULL, &c->old);
        c->old_ended = !mj__other_next(c->other, &c->old);
    }
}

void mj__comparison_note(void *comparison, const struct mj__outcome *o)
{
    struct mj__comparison *c = comparison;
    catch_up(c, o->ordinal);
    bool both = !c->old_ended && c->old.ordinal == o->ordinal;
    pair(c, o, both ? &c->old : NULL);
    if (both)
        c->old_ended = !mj__other_next(c->other, &c->old);
}

void mj__comparison_end(struct mj__comparison *c) { catch_up(c, UINT64_MAX); }
