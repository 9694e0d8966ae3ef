/* What scripts remember, under --data, and the named sets: those of the configuration file, and
 * what `moonjet ctl set` does with them. */
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/run.h"
#include "state/store.h"

#define GIVER     "the configuration"
#define SHOWN_MAX (16u << 20) /* bytes of members that one answer shows */

int run_open_store(struct run *run)
{
    MJ_AUTO_BUF error = {0};
    const struct mj_store_cfg cfg = {.data = run->data.path};
    if (mj_store_open(&cfg, &run->store, &error)) {
        fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    mj_scripts_set_store(run->scripts, run->store);
    return 0;
}

void run_open_readers(struct run *run, struct mj_journal *journal)
{
    const struct mj_readers_cfg cfg = {.journal = journal,
                                       .disk = run->on_disk ? mj_store_disk(run->store) : NULL};
    run->readers = mj_readers_new(&cfg);
    mj_router_set_readers(run->router, run->readers);
}

static bool stop_at_first(void *ctx, const struct mj_reader_state *s)
{
    (void)s;
    *(bool *)ctx = true;
    return false;
}

void run_warn_of_memory(struct run *run)
{
    static bool said;
    bool any = false;
    if (said || run->on_disk)
        return;
    mj_readers_each(run->readers, stop_at_first, &any);
    if (!any)
        return;
    said = true;
    mj_log(MJ_LOG_WARN, "run",
           "the journal is in memory, so what waits for :each, webhooks and plug-ins is lost at a "
           "restart; give --data, and a --retain above 0, to keep it");
}

void run_save_readers(void *ctx)
{
    struct run *run = ctx;
    run_warn_of_memory(run);
    mj_readers_save(run->readers);
}

static int give(struct mj_sets *sets, const struct mj_config_set *s, struct mj_buf *error)
{
    struct mj_members members = {0};
    int err = s->file ? mj_members_read(&members, s->file, error) : 0;
    for (size_t i = 0; i < s->member_count && !err; i++) {
        err = mj_members_add(&members, mj_str(s->members[i]));
        if (err)
            mj_buf_printf(error, "member %zu: %s", i + 1, mj_strerror(err));
    }
    struct mj_set *set = err ? NULL : mj_sets_make(sets, s->name);
    if (!err && !set) {
        err = MJ_ELIMIT;
        mj_buf_puts(error, "too many sets");
    }
    if (!err) {
        mj_sets_declare(sets, set);
        err = mj_set_give(set, GIVER, &members);
        if (err)
            mj_buf_puts(error, mj_strerror(err));
    }
    mj_set_unref(set);
    mj_members_deinit(&members);
    return err;
}

int run_give_sets(struct run *run, const struct mj_config *config, struct mj_buf *error)
{
    for (size_t i = 0; i < config->set_count; i++) {
        const struct mj_config_set *s = &config->sets[i];
        MJ_AUTO_BUF why = {0};
        int err = mj_state_name_valid(mj_str(s->name)) ? 0 : MJ_EINVAL;
        if (err)
            mj_buf_puts(&why, "a name is letters, digits and '_'");
        else
            err = give(mj_store_sets(run->store), s, &why);
        if (err) {
            mj_buf_printf(error, "%s:%u: set \"%s\": %s", config->path, s->line, s->name,
                          mj_buf_cstr(&why));
            return err;
        }
    }
    return 0;
}

/* ---- moonjet ctl set ---- */

static void list_one(void *ctx, struct mj_set *set)
{
    struct mj_buf *json = ctx;
    mj_buf_puts(json, json->ptr[json->len - 1] == '[' ? "{\"set\":" : ",{\"set\":");
    mj_buf_put_json(json, mj_str(mj_set_name(set)));
    mj_buf_printf(json, ",\"members\":%zu}", mj_set_count(set));
}

static int list(struct mj_sets *sets, struct mj_buf *json)
{
    mj_buf_puts(json, ",\"sets\":[");
    mj_sets_each(sets, list_one, json);
    mj_buf_putc(json, ']');
    return 0;
}

static int show(struct mj_set *set, struct mj_buf *json)
{
    MJ_AUTO_BUF at = {0};
    MJ_AUTO_BUF next = {0};
    int more;
    size_t n = 0;
    mj_buf_puts(json, ",\"members\":[");
    while (json->len < SHOWN_MAX &&
           (more = mj_set_after(set, at.len ? mj_buf_span(&at) : (struct mj_span){NULL, 0},
                                &next)) != 0) {
        if (more == 1) {
            mj_buf_puts(json, n++ ? "," : "");
            mj_buf_put_json(json, mj_buf_span(&next));
        }
        struct mj_buf swap = at;
        at = next;
        next = swap;
        next.len = 0;
    }
    mj_buf_printf(json, "],\"shown\":%zu,\"of\":%zu", n, mj_set_count(set));
    return 0;
}

/* Adds or removes each of the arguments that are left. */
static int edit(struct mj_set *set, struct run_args *args, bool add, struct mj_buf *json)
{
    MJ_AUTO_BUF member = {0};
    size_t n = 0;
    while (run_next_arg(args, &member)) {
        int r =
            add ? mj_set_add(set, mj_buf_span(&member)) : mj_set_remove(set, mj_buf_span(&member));
        if (r < 0)
            return r;
        n += (size_t)r;
    }
    mj_buf_printf(json, ",\"%s\":%zu,\"members\":%zu", add ? "added" : "removed", n,
                  mj_set_count(set));
    return 0;
}

static size_t count_args(struct run_args args)
{
    MJ_AUTO_BUF member = {0};
    size_t n = 0;
    while (run_next_arg(&args, &member))
        n++;
    return n;
}

/* Live members, as edits are: what was given stays away until a file says something else. */
static int load(struct mj_set *set, struct run_args *args, struct mj_buf *json)
{
    MJ_AUTO_BUF text = {0};
    struct mj_members members = {0};
    int err = 0;
    while (!err && run_next_arg(args, &text))
        err = mj_members_add(&members, mj_buf_span(&text));
    if (!err)
        err = mj_set_replace(set, &members);
    mj_members_deinit(&members);
    mj_buf_printf(json, ",\"members\":%zu", mj_set_count(set));
    return err;
}

static int work(struct mj_set *set, const char *verb, struct run_args *args, struct mj_buf *json)
{
    if (strcmp(verb, "show") == 0)
        return show(set, json);
    if (strcmp(verb, "add") == 0 || strcmp(verb, "remove") == 0)
        return edit(set, args, *verb == 'a', json);
    if (strcmp(verb, "load") == 0)
        return load(set, args, json);
    if (strcmp(verb, "clear") == 0)
        return mj_set_clear(set);
    return MJ_ESYNTAX;
}

void run_set_command(struct run *run, struct run_args *args, struct mj_call *call)
{
    struct mj_sets *sets = mj_store_sets(run->store);
    MJ_AUTO_BUF verb = {0};
    MJ_AUTO_BUF name = {0};
    MJ_AUTO_BUF json = {0};
    MJ_AUTO_BUF names = {0};
    struct mj_set *set = NULL;
    int err = MJ_ESYNTAX;
    size_t n = 0;
    mj_buf_puts(&json, "{\"ok\":true");
    if (run_next_arg(args, &verb) && strcmp(mj_buf_cstr(&verb), "list") == 0)
        err = list(sets, &json);
    else if (verb.len && run_next_arg(args, &name))
        set = mj_sets_get(sets, mj_buf_span(&name));
    if (set && strcmp(mj_buf_cstr(&verb), "load") == 0)
        n = count_args(*args);
    bool too_many = n && n > mj_set_max(set);
    if (name.len && !too_many)
        err = set ? work(set, mj_buf_cstr(&verb), args, &json) : MJ_ENOENT;
    mj_buf_putc(&json, '}');
    if (too_many) {
        /* Those that found no room would be gone, and nobody told. */
        mj_call_fail(call, 409,
                     "set %.64s holds %llu members, these are %zu: jet.set(…, { max = … }), or a "
                     "file that the script names, which needs no max",
                     mj_buf_cstr(&name), (unsigned long long)mj_set_max(set), n);
    } else if (err == MJ_ENOENT) {
        mj_sets_names(sets, &names);
        mj_call_fail(call, 404, "no set '%.64s'; there are: %.1000s", mj_buf_cstr(&name),
                     mj_buf_cstr(&names));
    } else if (err == MJ_ESYNTAX) {
        mj_call_fail(call, 400,
                     "set wants list, show NAME, clear NAME, add|remove|load NAME MEMBER…");
    } else if (err) {
        mj_call_fail(call, 409, "set %.64s: %s", mj_buf_cstr(&name), mj_strerror(err));
    } else {
        mj_call_answer(call, 200, (struct mj_span){NULL, 0}, mj_buf_span(&json));
    }
    mj_set_unref(set);
}
