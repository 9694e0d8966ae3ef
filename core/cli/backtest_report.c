#include "cli/backtest.h"
#include "cli/text.h"

static const char *const change_names[] = {"newly", "no longer", "changed"};
static const char *const change_keys[] = {"newly", "no_longer", "changed"};

/* Events in the outlet, for the main stream those that are left. */
static uint64_t reached(const struct mj__backtest_report *r, const struct mj__row *row, int side)
{
    return row->main ? r->in->events - row->reached[side] : row->reached[side];
}

static void put_examples(const struct mj__row *row, enum mj__change change, const char *label,
                         struct mj_buf *out)
{
    if (!row->example_count[change])
        return;
    mj_buf_printf(out, "\n%s%s%s\n", row->name, *label ? ", " : "", label);
    for (size_t i = 0; i < row->example_count[change]; i++) {
        mj_buf_puts(out, "  ");
        mj_text_harmless(mj_str(row->examples[change][i].uri), 400, out);
        if (*row->examples[change][i].text) {
            mj_buf_puts(out, "\n    ");
            mj_text_harmless(mj_str(row->examples[change][i].text), 100, out);
        }
        mj_buf_putc(out, '\n');
    }
    uint64_t more = row->changes[change] - row->example_count[change];
    char n[32];
    if (more)
        mj_buf_printf(out, "  and %s more\n", mj_text_number(more, n));
}

static void put_errors(const struct mj__backtest_report *r, struct mj_buf *out)
{
    uint64_t count, all = 0, listed = 0;
    char n[32];
    for (size_t i = 0; i < mj__side_nodes(r->side); i++)
        all += (uint64_t)mj__side_node(r->side, i).errors;
    if (all) {
        mj_buf_printf(out, "\n%s events ended with an error\n", mj_text_number(all, n));
        for (size_t i = 0; i < mj__side_errors(r->side); i++) {
            const char *text = mj__side_error(r->side, i, &count);
            listed += count;
            if (i >= 20)
                continue;
            mj_buf_printf(out, "  %s × ", mj_text_number(count, n));
            mj_text_harmless(mj_str(text), 300, out);
            mj_buf_putc(out, '\n');
        }
        if (mj__side_errors(r->side) > 20 || listed < all)
            mj_buf_puts(out, "  and others\n");
    }
    if (r->old_errors)
        mj_buf_printf(out, "\n%s events ended with an error in the old scripts\n",
                      mj_text_number(r->old_errors, n));
}

void mj__backtest_print(const struct mj__backtest_report *r, struct mj_buf *out)
{
    const struct mj__comparison *c = r->comparison;
    char a[32], b[32], n[32], m[32];
    mj_buf_printf(
        out, "%s events from %s to %s, %s of them read; %s events/s\n",
        mj_text_number(r->in->events, n), mj_text_time(r->in->first_us, a),
        mj_text_time(r->in->last_us, b), mj_text_number(r->in->read, m),
        mj_text_number(r->seconds > 0 ? (uint64_t)((double)r->in->events / r->seconds) : 0,
                       (char[32]){0}));
    if (r->in->bad)
        mj_buf_printf(out, "%s could not be read: %s%s\n", mj_text_number(r->in->bad, n),
                      r->in->first_bad, r->in->bad > 1 ? ", …" : "");
    mj_buf_putc(out, '\n');
    if (!c->row_count)
        mj_buf_puts(out, "no flow leads anywhere\n");
    else if (c->other)
        mj_buf_printf(out, "%-28s %13s %13s %13s %13s %13s\n", "", "old", "new", "newly",
                      "no longer", "changed");
    else
        mj_buf_printf(out, "%-28s %13s %10s\n", "", "events", "share");
    for (size_t i = 0; i < c->row_count; i++) {
        const struct mj__row *row = &c->rows[i];
        uint64_t in_new = reached(r, row, 0), all = r->in->events;
        if (!c->other) {
            mj_buf_printf(out, "%-28s %13s %8.3g %%\n", row->name, mj_text_number(in_new, n),
                          all ? 100.0 * (double)in_new / (double)all : 0);
            continue;
        }
        mj_buf_printf(out, "%-28s %13s", row->name, mj_text_number(reached(r, row, 1), n));
        mj_buf_printf(out, " %13s", mj_text_number(in_new, n));
        for (int k = 0; k < MJ__CHANGES; k++)
            mj_buf_printf(out, " %13s", mj_text_number(row->changes[k], n));
        mj_buf_putc(out, '\n');
    }
    for (size_t i = 0; i < c->row_count; i++)
        for (int k = 0; k < MJ__CHANGES; k++)
            put_examples(&c->rows[i], (enum mj__change)k,
                         c->other             ? change_names[k]
                         : !c->rows[i].main   ? ""
                         : k == MJ__NO_LONGER ? "dropped"
                                              : "changed",
                         out);
    put_errors(r, out);
}

static void put_row_json(const struct mj__backtest_report *r, const struct mj__row *row,
                         struct mj_buf *out)
{
    bool both = r->comparison->other != NULL;
    mj_buf_puts(out, "{\"name\":");
    mj_buf_put_json(out, mj_str(row->name));
    mj_buf_printf(out, ",\"new\":%llu", (unsigned long long)reached(r, row, 0));
    if (both) {
        mj_buf_printf(out, ",\"old\":%llu", (unsigned long long)reached(r, row, 1));
        for (int k = 0; k < MJ__CHANGES; k++)
            mj_buf_printf(out, ",\"%s\":%llu", change_keys[k], (unsigned long long)row->changes[k]);
    }
    mj_buf_puts(out, ",\"examples\":{");
    bool first = true;
    for (int k = 0; k < MJ__CHANGES; k++) {
        if (!row->example_count[k])
            continue;
        const char *key = both                 ? change_keys[k]
                          : !row->main         ? "events"
                          : k == MJ__NO_LONGER ? "dropped"
                                               : "changed";
        mj_buf_printf(out, "%s\"%s\":[", first ? "" : ",", key);
        first = false;
        for (size_t i = 0; i < row->example_count[k]; i++) {
            mj_buf_puts(out, i ? ",{\"uri\":" : "{\"uri\":");
            mj_buf_put_json(out, mj_str(row->examples[k][i].uri));
            mj_buf_puts(out, ",\"text\":");
            mj_buf_put_json(out, mj_str(row->examples[k][i].text));
            mj_buf_putc(out, '}');
        }
        mj_buf_putc(out, ']');
    }
    mj_buf_puts(out, "}}");
}

void mj__backtest_print_json(const struct mj__backtest_report *r, struct mj_buf *out)
{
    char a[32], b[32];
    mj_buf_printf(out,
                  "{\"events\":%llu,\"read\":%llu,\"bad\":%llu,\"from\":\"%s\",\"to\":\"%s\","
                  "\"seconds\":%.3f,\"outlets\":[",
                  (unsigned long long)r->in->events, (unsigned long long)r->in->read,
                  (unsigned long long)r->in->bad, mj_text_time(r->in->first_us, a),
                  mj_text_time(r->in->last_us, b), r->seconds);
    for (size_t i = 0; i < r->comparison->row_count; i++) {
        mj_buf_puts(out, i ? "," : "");
        put_row_json(r, &r->comparison->rows[i], out);
    }
    mj_buf_puts(out, "],\"nodes\":[");
    for (size_t i = 0; i < mj__side_nodes(r->side); i++) {
        struct mj__node_figures n = mj__side_node(r->side, i);
        mj_buf_puts(out, i ? ",{\"script\":" : "{\"script\":");
        mj_buf_put_json(out, mj_str(n.script));
        mj_buf_puts(out, ",\"node\":");
        mj_buf_put_json(out, mj_str(n.node));
        mj_buf_printf(out,
                      ",\"line\":%u,\"in\":%lld,\"out\":%lld,\"dropped\":%lld,\"errors\":%lld,"
                      "\"nanoseconds\":%lld}",
                      n.line, (long long)n.in, (long long)n.passed, (long long)n.dropped,
                      (long long)n.errors, (long long)n.ns);
    }
    mj_buf_puts(out, "],\"errors\":[");
    for (size_t i = 0; i < mj__side_errors(r->side); i++) {
        uint64_t count;
        const char *text = mj__side_error(r->side, i, &count);
        mj_buf_printf(out, "%s{\"count\":%llu,\"text\":", i ? "," : "", (unsigned long long)count);
        mj_buf_put_json(out, mj_str(text));
        mj_buf_putc(out, '}');
    }
    mj_buf_putc(out, ']');
    if (r->comparison->other)
        mj_buf_printf(out, ",\"old_errors\":%llu", (unsigned long long)r->old_errors);
    mj_buf_puts(out, "}\n");
}
