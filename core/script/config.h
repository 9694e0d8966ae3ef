/* The configuration file (moonjet.lua): what `moonjet run` does, written in Lua.
 *
 *   source "wss://bsky.network"
 *   listen { stream = ":6008", metrics = "127.0.0.1:6009" }
 *   journal { data = "/var/lib/moonjet", retain = "36h" }
 *   script "scripts/…" { memory = "64M" }
 *   script "scripts/bot.lua" { config = { did = "did:plc:…" }, secrets = { "BOT_PW" } }
 *   set "vips" { file = "vips.txt" }
 *
 * The file runs once in a VM of its own, with a cap on time and memory; it can set options and name
 * scripts, and sees neither events nor files. Groups and keys come from the table of options, so a
 * new option is one row there. What it says is only collected here: who reads it decides what is
 * already said on the command line or in the environment.
 *
 * Relative paths are relative to the file's folder. A pattern stands for the files it matches, in
 * order of name, specs (NAME_spec.lua) left out; what several entries say of one script is put
 * together, the later winning key by key. */
#pragma once

#include "base/options.h"
#include "flow/lane.h"
#include "script/script.h"

struct mj_config_option {
    const struct mj_option *option; /* borrowed: a row of the table */
    char *value;                    /* owned */
    unsigned line;
};

enum mj_lane_kind { MJ_LANE_SHARED, MJ_LANE_OWN };

struct mj_config_script {
    char *path;                            /* owned */
    unsigned line;                         /* 0: named on the command line */
    struct mj_script_cfg cfg;              /* borrows from what follows */
    char *config_lua;                      /* owned, or NULL */
    struct mj_strings secrets, http_allow; /* owned texts */
    bool has_secrets, has_http_allow;
    enum mj_lane_kind lane;
    enum mj_lag lag;
};

struct mj_config_set {
    char *name, *file; /* owned; file may be NULL */
    char **members;    /* owned, of owned texts */
    size_t member_count;
    unsigned line;
};

struct mj_config {
    char *path;                       /* owned: as it was given; NULL when there is no file */
    struct mj_config_option *options; /* owned, in the file's order */
    size_t option_count;
    struct mj_config_script **scripts; /* owned, of owned scripts, in order */
    size_t script_count;
    struct mj_config_set *sets; /* owned */
    size_t set_count;
};

/* Runs the file. 0; MJ_EIO when it cannot be read, MJ_EINVAL when it says something that cannot be;
 * with "moonjet.lua:12: why" appended to `error`, and *out empty. Patterns without a match are
 * named in `notes`, one line each. */
int mj_config_load(const char *path, const struct mj_option *options, struct mj_config *out,
                   struct mj_buf *notes, struct mj_buf *error);
/* Also good for one that is all zero. */
void mj_config_deinit(struct mj_config *c);
/* A script that the command line names: the file's own entry when there is one, else a new one at
 * the end. `defaults` for what nobody says. Borrowed until the config ends. */
struct mj_config_script *mj_config_script(struct mj_config *c, const char *path);
/* A text as a Lua string in quotes. */
void mj_lua_quote(struct mj_span text, struct mj_buf *out);
/* Values as an option shows them: "64M", "36h", "1500ms". */
void mj_config_size(int64_t bytes, struct mj_buf *out);
void mj_config_time(int64_t us, struct mj_buf *out);
/* The entry as the file would say it: script "…" { … }. */
void mj_config_print_script(const struct mj_config_script *s, struct mj_buf *out);
void mj_config_print_set(const struct mj_config_set *s, struct mj_buf *out);
