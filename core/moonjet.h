/* The plug-in ABI: what a plug-in in C and Moonjet know of each other, and the one header that is
 * installed.
 *
 * A plug-in is a shared object that exports one symbol, `moonjet_plugin`, and needs none of ours:
 *
 *   const struct mj_plugin moonjet_plugin = {
 *       MJ_PLUGIN_HEAD, .name = "file", .help = "JSON lines in a file.",
 *       .options = options, .cfg_size = sizeof(struct cfg),
 *       .init = on_init, .deliver = on_deliver, .deinit = on_deinit};
 *
 * A script makes an instance of it with jet.sink("file", { path = "posts.jsonl" }). Each instance
 * has a thread of its own, on which all its functions but `init` are called: a plug-in may wait,
 * and delays nobody. It never sees a script or an event's memory, only finished JSON.
 *
 *   script's flow ─▶ journal ─▶ thread ─▶ deliver() ─▶ position
 *
 * Events come at least once and in order, also over restarts: those that were taken when the
 * process died may come again. Where nothing is kept, a bounded ring stands for the journal, and
 * what it has no room for is dropped and counted.
 *
 * Structs grow at their ends only. `abi` changes when something else does; `size` tells how much of
 * a struct the other side knows. */
#ifndef MOONJET_H
#define MOONJET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MJ_PLUGIN_ABI  1
#define MJ_PLUGIN_HEAD .abi = MJ_PLUGIN_ABI, .size = sizeof(struct mj_plugin)

/* An option is a field of the plug-in's own struct, filled in before init(). */
enum mj_plugin_type {
    MJ_PLUGIN_TEXT,    /* const char *, owned by Moonjet until deinit() has returned */
    MJ_PLUGIN_FLAG,    /* int, 0 or 1 */
    MJ_PLUGIN_INTEGER, /* int64_t */
    MJ_PLUGIN_SIZE,    /* int64_t bytes; people write "64M" */
    MJ_PLUGIN_DURATION /* int64_t microseconds; people write "90s" */
};

struct mj_plugin_option {
    const char *name; /* NULL ends the table */
    enum mj_plugin_type type;
    size_t offset;   /* of the field */
    const char *def; /* as people write it; NULL: the option must be given */
    const char *help;
};

/* One event: the JSON that subscribers get, borrowed during deliver(). */
struct mj_plugin_event {
    const char *json; /* not NUL-terminated */
    size_t len;
    int64_t time_us; /* Unix microseconds */
};

enum mj_plugin_level { MJ_PLUGIN_DEBUG, MJ_PLUGIN_INFO, MJ_PLUGIN_WARN, MJ_PLUGIN_ERROR };

/* What Moonjet offers an instance. */
struct mj_plugin_host {
    uint32_t abi, size;
    void *self; /* Moonjet's; first argument of these */
    /* A line in the log. Any thread. */
    void (*log)(void *self, enum mj_plugin_level level, const char *text);
    const char *script; /* whose sink this is */
};

/* Results of deliver() below 0. */
#define MJ_PLUGIN_AGAIN (-1) /* nothing was taken; the same events come again, a little later */
#define MJ_PLUGIN_FAILED                                                                           \
    (-2) /* none of these events can be taken, ever: they become dead letters */

struct mj_plugin {
    uint32_t abi, size;
    const char *name, *help;
    const struct mj_plugin_option *options; /* NULL: none */
    size_t cfg_size;                        /* of the struct that options point into */
    /* Starts an instance: 0 with *state set to whatever the plug-in wants to have back, or not 0
     * after host->log said why; then the script does not load. `cfg` and `host` stay until
     * deinit(). On the thread that loads scripts; everything after it on the instance's own. */
    int (*init)(const struct mj_plugin_host *host, const void *cfg, void **state);
    /* Takes events, in order: returns how many of the n (1 or more), or a negative result. Called
     * with n = 0 about every second while there is nothing, for what a plug-in does by the clock.
     */
    int (*deliver)(void *state, const struct mj_plugin_event *events, size_t n);
    void (*deinit)(void *state);
};

#ifdef __cplusplus
}
#endif
#endif
