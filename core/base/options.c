#include "base/options.h"

#include <ctype.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"

static void print_help(const struct mj_command *cmd)
{
    printf("Usage: moonjet %s [options]%s%s\n\n%s\n", cmd->name, *cmd->usage ? " " : "", cmd->usage,
           cmd->summary);
    if (cmd->details)
        printf("\n%s\n", cmd->details);
    printf("\nOptions (each also as MOONJET_… in the environment):\n");
    for (const struct mj_option *o = cmd->options; o && o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        printf("  %-28s %s", left, o->help);
        if (o->def && *o->def)
            printf(" (default %s)", o->def);
        if (o->env)
            printf(" [%s]", o->env);
        putchar('\n');
    }
    printf("  %-28s %s\n", "--help", "this text");
}

static int parse_size(const char *text, int64_t *out)
{
    size_t n = strlen(text);
    int shift = 0;
    if (n && (text[n - 1] == 'B' || text[n - 1] == 'b'))
        n--;
    if (n && !isdigit((unsigned char)text[n - 1])) {
        switch (toupper((unsigned char)text[n - 1])) {
        case 'K':
            shift = 10;
            break;
        case 'M':
            shift = 20;
            break;
        case 'G':
            shift = 30;
            break;
        case 'T':
            shift = 40;
            break;
        default:
            return MJ_ESYNTAX;
        }
        n--;
    }
    int64_t v;
    int r = mj_span_i64(mj_span(text, n), &v);
    if (r)
        return r;
    if (v < 0 || v > INT64_MAX >> shift)
        return MJ_ELIMIT;
    *out = v << shift;
    return 0;
}

const char *mj_option_shape(const struct mj_option *o)
{
    return o->type == MJ_OPT_TIME   ? "a time such as 500ms, 30s, 36h or 7d"
           : o->type == MJ_OPT_SIZE ? "a size such as 64K, 16M or 2G"
           : o->arg                 ? o->arg
                                    : "true or false";
}

/* 0, or MJ_E…; the caller says which option and where the value came from. */
static int set(const struct mj_option *o, void *cfg, const char *value)
{
    void *at = (char *)cfg + o->offset;
    switch (o->type) {
    case MJ_OPT_FLAG: {
        bool yes =
            strcmp(value, "true") == 0 || strcmp(value, "1") == 0 || strcmp(value, "yes") == 0;
        if (!yes && strcmp(value, "false") && strcmp(value, "0") && strcmp(value, "no"))
            return MJ_ESYNTAX;
        memcpy(at, &yes, sizeof yes);
        return 0;
    }
    case MJ_OPT_STR:
        memcpy(at, &value, sizeof value);
        return 0;
    case MJ_OPT_INT:
        return mj_span_i64(mj_str(value), (int64_t *)at);
    case MJ_OPT_SIZE:
        return parse_size(value, (int64_t *)at);
    case MJ_OPT_TIME:
        return mj_duration_us(mj_str(value), (int64_t *)at);
    case MJ_OPT_LIST: {
        struct mj_strings *list = at;
        if (list->n == MJ_STRINGS_MAX)
            return MJ_ELIMIT;
        list->v[list->n++] = value;
        return 0;
    }
    }
    return MJ_EINVAL;
}

int mj_option_set(const struct mj_option *o, void *cfg, const char *value, struct mj_buf *error)
{
    int err = set(o, cfg, value);
    if (err)
        mj_buf_printf(error, "%s (expected %s)", mj_strerror(err), mj_option_shape(o));
    return err;
}

/* The lists taken from the environment. Options borrow from them until the process ends, as they
 * do from argv, so they are kept here and never freed. */
struct env_list {
    struct env_list *next; /* owned */
    char text[];
};
static struct env_list *env_lists;

static char *keep(const char *value)
{
    size_t size = strlen(value) + 1;
    struct env_list *list = mj_alloc(sizeof *list + size);
    list->next = env_lists;
    env_lists = list;
    return memcpy(list->text, value, size);
}

static int set_env(const struct mj_option *o, void *cfg, const char *variable, const char *value)
{
    int r = 0;
    if (o->type == MJ_OPT_LIST) {
        char *save = NULL;
        for (char *p = strtok_r(keep(value), ",", &save); p && !r; p = strtok_r(NULL, ",", &save))
            r = set(o, cfg, p);
    } else {
        r = set(o, cfg, value);
    }
    if (r)
        fprintf(stderr, "moonjet: %s=%s: %s (it sets --%s; expected %s)\n", variable, value,
                mj_strerror(r), o->name, mj_option_shape(o));
    return r;
}

static int distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    if (la > 60 || lb > 60)
        return 99;
    int row[64];
    for (size_t j = 0; j <= lb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= la; i++) {
        int diag = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= lb; j++) {
            int best = diag + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diag = row[j];
            row[j] = best;
        }
    }
    return row[lb];
}

const char *mj_closest(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    int best_d = 3;
    for (size_t i = 0; i < n; i++) {
        int d = distance(word, names[i]);
        if (d < best_d && 2 * d <= (int)strlen(names[i])) {
            best_d = d;
            best = names[i];
        }
    }
    return best;
}

static int unknown_option(const struct mj_command *cmd, const char *name)
{
    const char *names[MJ_OPTIONS_MAX];
    size_t n = 0;
    for (const struct mj_option *o = cmd->options; o && o->name && n < MJ_COUNT(names); o++)
        names[n++] = o->name;
    const char *near = mj_closest(name, names, n);
    fprintf(stderr, "moonjet %s: unknown option --%s", cmd->name, name);
    if (near)
        fprintf(stderr, "; did you mean --%s?", near);
    fprintf(stderr, " (moonjet %s --help lists them)\n", cmd->name);
    return MJ_EXIT_USAGE;
}

int mj_options_parse(const struct mj_command *cmd, int argc, char **argv, void *cfg,
                     struct mj_strings *pos)
{
    enum mj_opt_from from[MJ_OPTIONS_MAX];
    return mj_options_parse_from(cmd, argc, argv, cfg, pos, from);
}

int mj_options_parse_from(const struct mj_command *cmd, int argc, char **argv, void *cfg,
                          struct mj_strings *pos, enum mj_opt_from *from)
{
    memset(from, 0, MJ_OPTIONS_MAX * sizeof *from);
    pos->n = 0;
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (options_end || arg[0] != '-' || !arg[1]) {
            if (pos->n >= cmd->positional_max || pos->n == MJ_STRINGS_MAX) {
                fprintf(stderr, "moonjet %s: unexpected argument '%s' (usage: moonjet %s %s)\n",
                        cmd->name, arg, cmd->name, cmd->usage);
                return MJ_EXIT_USAGE;
            }
            pos->v[pos->n++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            options_end = true;
            continue;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            print_help(cmd);
            return MJ_EXIT_HELP;
        }
        const char *name = arg[1] == '-' ? arg + 2 : arg + 1;
        const char *eq = strchr(name, '=');
        size_t len = eq ? (size_t)(eq - name) : strlen(name);
        const struct mj_option *o = cmd->options;
        size_t k = 0;
        while (o && o->name &&
               !(arg[1] == '-' && strlen(o->name) == len && memcmp(o->name, name, len) == 0))
            o++, k++;
        if (!o || !o->name) {
            char *word = mj_span_dup(mj_span(name, len));
            int r = unknown_option(cmd, word);
            free(word);
            return r;
        }
        const char *value = eq ? eq + 1 : NULL;
        if (!value && o->type == MJ_OPT_FLAG)
            value = "true";
        if (!value) {
            if (i + 1 >= argc) {
                fprintf(stderr, "moonjet %s: --%s needs a value: --%s %s\n", cmd->name, o->name,
                        o->name, o->arg ? o->arg : "VALUE");
                return MJ_EXIT_USAGE;
            }
            value = argv[++i];
        }
        from[k] = MJ_OPT_FROM_ARGV;
        int r = set(o, cfg, value);
        if (r) {
            fprintf(stderr, "moonjet %s: --%s %s: %s (expected %s)\n", cmd->name, o->name, value,
                    mj_strerror(r), mj_option_shape(o));
            return MJ_EXIT_USAGE;
        }
    }
    size_t k = 0;
    for (const struct mj_option *o = cmd->options; o && o->name; o++, k++) {
        if (from[k])
            continue;
        char variable[96] = "MOONJET_";
        size_t w = 8;
        for (const char *p = o->name; *p && w + 1 < sizeof variable; p++)
            variable[w++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        variable[w] = '\0';
        const char *v = getenv(variable);
        const char *where = variable;
        if (!v && o->env) {
            v = getenv(o->env);
            where = o->env;
        }
        if (v && *v) {
            if (set_env(o, cfg, where, v))
                return MJ_EXIT_USAGE;
            from[k] = MJ_OPT_FROM_ENV;
        } else if (o->def && *o->def && set(o, cfg, o->def)) {
            fprintf(stderr, "moonjet %s: bad built-in default for --%s\n", cmd->name, o->name);
            return MJ_EXIT_USAGE;
        }
    }
    if (pos->n < cmd->positional_min) {
        fprintf(stderr, "moonjet %s: missing argument (usage: moonjet %s %s)\n", cmd->name,
                cmd->name, cmd->usage);
        return MJ_EXIT_USAGE;
    }
    return 0;
}
