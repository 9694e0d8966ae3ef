/* moonjet run, in rooms: options and configuration (run_options.c), sources (run_sources.c),
 * scripts and their reload (run_scripts.c), and the life of it all (cmd_run.c). Internal to
 * core/cli. */
#pragma once

#include <stdatomic.h>

#include "cli/data_dir.h"
#include "deliver/net.h"
#include "flow/router.h"
#include "script/config.h"
#include "script/reload.h"
#include "script/script.h"
#include "script/services.h"
#include "server/server.h"
#include "source/firehose.h"
#include "state/store.h"

#define RUN_DEFAULT_SOURCE "wss://bsky.network"

struct run_cfg {
    struct mj_strings sources, config, trusted, http_allow, plugins;
    const char *listen, *metrics_listen, *data, *dictionary, *on_future, *log_level, *log_format,
        *secrets, *control, *plc, *dns;
    int64_t max_per_ip, replay_rate, stall_seconds;
    int64_t cursor, tail, script_memory, retain, retain_bytes, sync, seal_after, segment_bytes;
    int64_t why;
    bool watch, check_config, print_config;
};

extern const struct mj_option mj_run_options[];

/* What is in force: the command line over the environment over the file over defaults. */
struct run_settings {
    struct run_cfg cfg; /* texts borrowed from argv, the environment and `file` */
    enum mj_opt_from from[MJ_OPTIONS_MAX];
    struct mj_strings scripts; /* those the command line names; borrowed from argv */
    struct mj_strings pairs;   /* KEY=VALUE of the command line or the environment; borrowed */
    const char *path;          /* of the file; borrowed; NULL for none */
    struct mj_config file;
};

/* Reads it all. 0, MJ_EXIT_HELP, MJ_EXIT_USAGE or MJ_EXIT_FAILED, after saying why on stderr. */
int run_read_settings(const struct mj_command *cmd, int argc, char **argv, struct run_settings *s);
/* Reads the file once more, with the same command line: *out gets the scripts and sets that are in
 * force now, and `notes` a line for each option that would take a restart. 0, or MJ_E… with why in
 * `error`. */
int run_read_again(const struct run_settings *s, struct mj_config *out, struct mj_buf *notes,
                   struct mj_buf *error);
void run_settings_deinit(struct run_settings *s);
/* --print-config */
void run_print_settings(const struct run_settings *s, struct mj_buf *out);

struct run;

struct source {
    struct run *run;          /* borrowed */
    char *url;                /* owned, as given: the key of its cursor */
    struct mj_firehose *hose; /* owned */
    int number;               /* the journal's */
    struct mj_metric *emitted, *persisted;
    _Atomic int64_t seq; /* copies for other threads */
    _Atomic bool connected;
};

struct run {
    struct mj_loop *loop;
    struct mj_journal *journal; /* borrowed */
    struct mj_router *router;
    struct mj_streams *streams;
    struct mj_scripts *scripts;
    struct mj_timer *tasks;              /* owned: when scripts have something to do next */
    const struct run_settings *settings; /* borrowed */
    struct mj_calls *calls;              /* owned: from the server's thread */
    struct mj_routes *routes;            /* owned */
    struct mj_net *net;                  /* owned; NULL when no script can need it */
    struct mj_services services;
    struct mj_store *store;      /* owned: what scripts remember */
    struct mj_readers *readers;  /* owned: durable readers of the journal */
    struct run_watcher *watcher; /* owned; NULL without --watch */
    bool watch_asked;            /* the reload in progress is nobody's wish */
    bool ending;                 /* the tasks timer looks whether the scripts have ended */
    struct run_lane *lanes;      /* owned list: scripts with lane = "own" */
    struct run_why *why;         /* owned: run_why.c */
    struct mj_data_dir data;
    struct source sources[MJ_SOURCES_MAX];
    size_t source_count;
    _Atomic int64_t last_frame_us; /* wall clock; 0 before the first */
    bool future;                   /* a source gave up */
    _Atomic bool failed;           /* the journal takes nothing more */
    struct mj_metric *published;   /* the journal's: events of all sources */
    bool on_disk;                  /* … which is kept under --data */
};

/* run_restart.c: a script that is stuck inside C can only be ended with the process. So the process
 * starts itself again, in place, with a note of whose fault it was:
 *
 *   watchdog: stuck ─▶ note in DATA/restarts and in the environment ─▶ exec of ourselves
 *   start: read the notes ─▶ that script is quarantined, longer each time; after the third within a
 *          minute it stays out until it is reloaded
 *
 * A note is a line "TIME<TAB>WHAT<TAB>PATH": Unix µs, the node or task or "loading", the script.
 * Without a journal on disk, lines "cursor<TAB>SEQ<TAB>URL" say how far each source was read; these
 * are in the environment only. */
#define RUN_NOTES_MAX 32
struct run_note {
    int64_t us;
    char what[80];
    char path[1024];
};
struct run_notes {
    struct run_note
        notes[RUN_NOTES_MAX]; /* the oldest first; those older than 10 minutes left out */
    size_t count;
    struct {
        int64_t seq;
        char url[1024];
    } cursors[MJ_SOURCES_MAX];
    size_t cursor_count;
};
/* Reads lines; what is no note is skipped. */
void run_notes_parse(struct run_notes *n, struct mj_span text, int64_t now_us);
/* Reads what the environment and the directory (NULL: none) hold. */
void run_notes_read(struct run_notes *n, const char *data);
/* How often the script was noted: the n of mj_scripts_quarantine(). *out: three times within a
 * minute. *loading: while it was loaded. */
unsigned run_notes_count(const struct run_notes *n, const char *path, bool *out, bool *loading);
/* Starts the process again when a script is stuck, with these arguments (borrowed). `run` is looked
 * at for its sources only. Once. */
void run_restart_setup(struct run *run, char **argv, const struct run_notes *notes);
/* From now on a stuck script is worth a restart: before, a script that does not load ends us. */
void run_restart_armed(void);
/* From now on it ends us, too: we were to end. */
void run_restart_disarm(void);
/* mj_scripts_on_stuck()'s. */
void run_restart(void *ctx, const struct mj_stuck *stuck);

/* run_sources.c: connects them. 0 or an exit status, after saying why. */
int run_start_sources(struct run *run, const struct run_cfg *cfg, struct mj_journal *journal,
                      const struct run_notes *notes);
void run_stop_sources(struct run *run);
/* Copies what other threads may ask for; on the router's thread, every second. */
void run_copy_sources(void *ctx);
/* `,"sources":[…]`, on the server's thread. */
void run_put_sources(struct run *run, struct mj_buf *json);

/* run_scripts.c: loads what the configuration names. 0 or an exit status, after saying why. */
int run_load_scripts(
    struct mj_scripts *scripts, const struct mj_config *config,
    const struct run_notes *notes /* NULL: a check, which loads those of lanes, too */);
/* True when the script may be loaded after what the notes say; then *n is how often it was noted,
 * and *out that it is to stay out. notes NULL: there are none. */
bool run_was_harmless(const struct run_notes *notes, const char *path, unsigned *n, bool *out);

/* True, after a line in the log, when a script that does not load must not end us: a process that
 * started itself again goes on with what it can. */
bool run_may_miss(const struct run_notes *notes, const struct mj_buf *error);

/* run_lanes.c: scripts with lane = "own". 0 or an exit status, after saying why. */
int run_load_lanes(struct run *run, const struct mj_config *config, const struct run_notes *notes);
/* Reload: first those that are no more, then, when the shared scripts are in place, the others. 0
 * or MJ_E…; lines go to `report`. */
void run_drop_lanes(struct run *run, const struct mj_config *config, struct mj_buf *report);
int run_reload_lanes(struct run *run, const struct mj_config *config, bool all,
                     const struct mj_strings *only, struct mj_buf *report);
/* Ends them all: each has a second for its events, and one for its end. */
void run_stop_lanes(struct run *run);
/* Appends an object per lane; `first`: without a comma before the first. */
void run_list_lanes(struct run *run, bool first, struct mj_buf *json);
/* Calls fn with each lane's set of scripts, for what may be read on any thread: the graph, files.
 */
void run_each_lane(struct run *run, void (*fn)(void *ctx, struct mj_scripts *scripts), void *ctx);

/* Durable readers, with their positions in the store when the journal is on disk, too; the store is
 * open. run_save_readers() is for once a second. */
void run_open_readers(struct run *run, struct mj_journal *journal);
void run_save_readers(void *ctx);
/* Says once that what waits would be lost at a restart, when a script has durable ends. */
void run_warn_of_memory(struct run *run);

/* Lets their timers and tasks run from now on, on the router's thread. */
void run_start_scripts(struct run *run);
void run_stop_scripts(struct run *run);
/* Lets their jet.on_stop functions run, for some seconds at most. */
void run_end_scripts(struct run *run);
/* Something may be due: after each batch of frames. */
void run_scripts(struct run *run);

/* run_reload.c: the configuration file and the scripts are read again; `only` (may be NULL or
 * empty): those scripts, by path or name. What changed, failed or takes a restart is logged, and
 * appended to `report`, a line each. 0 or MJ_E…. */
int run_reload(struct run *run, bool all, const struct mj_strings *only, struct mj_buf *report);
/* True when the list names the script: by path, file name, or file name without .lua. */
bool run_is_named(const struct mj_strings *only, const char *path);
/* --watch: reloads when one of the files changes. 0 or an exit status, after saying why. */
int run_watch(struct run *run);
void run_unwatch(struct run *run);

/* run_services.c: what scripts get; before they are loaded. 0 or an exit status, after saying why.
 */
int run_start_services(struct run *run);
/* A net of its own, with the operator's options; `fn` is its wake function, `journal` what its
 * webhooks read (NULL: none). */
int run_start_net(const struct run_cfg *cfg, struct mj_journal *journal, void (*fn)(void *ctx),
                  void *ctx, struct mj_net **out);
/* mj_services.hook_check; its ctx is not looked at. */
int run_hook_check(void *ctx, const struct mj_hook_spec *spec, struct mj_buf *error);
/* When no script runs any more. */
void run_stop_net(struct run *run);
/* Whether that is a list as http_allow wants it. 0, or MJ_ESYNTAX with a sentence. */
int run_check_allow(const struct mj_strings *allow, struct mj_buf *error);
/* What single scripts may reach besides. 0, or MJ_ESYNTAX with a sentence, and nothing changes.
 * net NULL: only looks. */
int run_allow(struct mj_net *net, const struct mj_config *config, struct mj_buf *error);

/* run_state.c: what scripts remember; before they are loaded. 0 or an exit status, after saying
 * why.
 */
int run_open_store(struct run *run);
/* The sets that the configuration file gives. 0 or MJ_E… with a sentence. */
int run_give_sets(struct run *run, const struct mj_config *config, struct mj_buf *error);

/* run_why.c: decisions are remembered in so many bytes (0: not at all), and moonjet ctl why is
 * answered. Before the first script is loaded. */
struct mj_why;
void run_open_why(struct run *run, size_t bytes);
/* Where lanes remember theirs, or NULL. */
struct mj_why *run_lanes_why(struct run *run);
/* Answers what has been searched for, on the router's thread. */
void run_why_answers(struct run *run);
/* Nothing more is searched for; while calls can still be answered. */
void run_stop_why(struct run *run);
/* When no router writes any more. */
void run_free_why(struct run *run);

/* run_control.c: the arguments of a command, one after the other. */
struct run_args {
    struct mj_span rest; /* of the JSON array */
};
/* The next in *out, NUL-terminated, too; false at the end. */
bool run_next_arg(struct run_args *a, struct mj_buf *out);
void run_set_command(struct run *run, struct run_args *args,
                     struct mj_call *call); /* run_state.c */
void run_why_command(struct run *run, struct run_args *args, struct mj_call *call); /* run_why.c */
/* run_deliveries.c: answers on a thread of its own. */
void run_deliveries_command(struct run *run, struct run_args *args, struct mj_call *call);
/* Waits for those threads; before the readers are freed. */
void run_stop_deliveries(void);
/* Answers what the server's thread has handed over. */
void run_take_calls(struct run *run);
