/* Command-line options from one table: parsing, environment, --help and errors share it.
 *
 *   static const struct mj_option options[] = {
 *       {"listen", MJ_OPT_STR, offsetof(struct cfg, listen), "HOST:PORT", "where to serve",
 *        .def = ":6008", .env = "JETSTREAM_LISTEN_ADDR"},
 *       {0}};
 *
 * Every --long-name also reads MOONJET_LONG_NAME; `env` names a further fall-back. Command line
 * beats MOONJET_…, which beats `env`, which beats a configuration file (script/config.h; `group`
 * and `key` are its names there), which beats `def`. */
#pragma once

#include "base/bytes.h"

enum mj_opt_type {
    MJ_OPT_FLAG, /* bool */
    MJ_OPT_STR,  /* const char *, borrowed from argv or the environment */
    MJ_OPT_INT,  /* int64_t */
    MJ_OPT_SIZE, /* int64_t bytes: 64K, 16M, 2G, 1T (powers of 1024) */
    MJ_OPT_TIME, /* int64_t microseconds: 500ms, 30s, 36h, 7d, 1h30m, 0 */
    MJ_OPT_LIST  /* struct mj_strings: repeatable; one variable holds a comma list */
};

#define MJ_STRINGS_MAX 64
struct mj_strings {
    const char *v[MJ_STRINGS_MAX];
    size_t n;
};

struct mj_option {
    const char *name; /* without dashes; NULL ends the table */
    enum mj_opt_type type;
    size_t offset;   /* of the field in the config struct */
    const char *arg; /* shown in --help, e.g. "HOST:PORT" */
    const char *help;
    const char *def; /* NULL: zero */
    const char *env; /* fall-back variable besides MOONJET_…, or NULL */
    /* In a configuration file: group { key = … }. group NULL: not there; key NULL: the name with
     * '_' for '-'. */
    const char *group, *key;
    bool path; /* a file or directory: relative to the configuration file that names it */
};

struct mj_command {
    const char *name;    /* "run" */
    const char *usage;   /* "[SCRIPT…]": positional part of the usage line */
    const char *summary; /* one line */
    const char *details; /* paragraph for --help, or NULL */
    const struct mj_option *options;
    size_t positional_min, positional_max;
    int (*main)(const struct mj_command *cmd, int argc, char **argv); /* exit code */
};

#define MJ_EXIT_OK     0
#define MJ_EXIT_FAILED 1
#define MJ_EXIT_USAGE  2
#define MJ_EXIT_HELP   100 /* internal: --help was printed, exit 0 */

/* Fills *cfg from defaults, environment and argv[1..]; positionals go to *pos. 0, MJ_EXIT_HELP
 * after printing help on stdout, or MJ_EXIT_USAGE after a message on stderr. */
int mj_options_parse(const struct mj_command *cmd, int argc, char **argv, void *cfg,
                     struct mj_strings *pos);
#define MJ_OPTIONS_MAX 128 /* rows of a table */
enum mj_opt_from { MJ_OPT_FROM_DEFAULT, MJ_OPT_FROM_ENV, MJ_OPT_FROM_ARGV };
/* The same; from[i] says where option i of the table got its value. */
int mj_options_parse_from(const struct mj_command *cmd, int argc, char **argv, void *cfg,
                          struct mj_strings *pos, enum mj_opt_from *from);
/* Sets one option from text, which must stay for as long as *cfg is used. 0, or MJ_E… with "why
 * (expected …)" appended to `error`. */
int mj_option_set(const struct mj_option *o, void *cfg, const char *value, struct mj_buf *error);
/* What a value looks like, for people: "a time such as 500ms, 30s, 36h or 7d". */
const char *mj_option_shape(const struct mj_option *o);
/* Closest of the names within two edits, or NULL: for "did you mean". */
const char *mj_closest(const char *word, const char *const *names, size_t n);
