/* Plug-ins in C (core/moonjet.h): finding, checking and running them.
 *
 *   sink = mj_sink_new("file"), mj_sink_set() per option      while a script declares: no effects
 *   mj_sink_start()                                           when its graph goes live
 *   mj_sink_read()                                            where events are kept: what for
 *   mj_sink_push() per event                                  elsewhere; the router's thread
 *   mj_sink_stop()                                            after the graph is gone
 *
 * A sink is an instance with a thread, which hands events to the plug-in, and the plug-in may wait.
 * They come out of readers of the journal (journal/reader.h): each is there until the plug-in has
 * taken it, one after the other. Where nothing is kept, they are pushed into a ring, as JSON; a
 * full ring drops what comes and counts it.
 *
 * Searched are, in this order: the directories of mj_plugins_dirs(), `plugins` beside the program,
 * `../lib/moonjet/plugins` from there, and where the build says it is installed; in each
 * DIR/NAME/NAME.so and, for plug-ins in Lua, DIR/NAME/init.lua. */
#pragma once

#include "base/options.h"
#include "event/event.h"

struct mj_sink;

/* Further directories, before everything else. Their texts are borrowed for ever. */
void mj_plugins_dirs(const struct mj_strings *dirs);
/* The path of a plug-in in Lua: 0 with the path in `out`, or MJ_ENOENT. */
int mj_plugin_lua(const char *name, struct mj_buf *out);

/* An instance of the plug-in, not yet running. 0; MJ_ENOENT when there is none of that name,
 * MJ_EINVAL when it is not one we can use, with a sentence in `error`. */
int mj_sink_new(const char *name, const char *script, struct mj_sink **out, struct mj_buf *error);
/* Sets an option, as people write it. 0, or MJ_EINVAL with a sentence that names what is expected.
 */
int mj_sink_set(struct mj_sink *s, const char *name, struct mj_span value, struct mj_buf *error);
/* Checks that every option that must be given is. 0 or MJ_EINVAL with a sentence. */
int mj_sink_check(const struct mj_sink *s, struct mj_buf *error);
/* Starts it. 0, or MJ_EIO with a sentence. */
int mj_sink_start(struct mj_sink *s, struct mj_buf *error);
/* One event. 0, MJ_ELIMIT when the ring is full, or what the encoder said; counted. The router's
 * thread. */
int mj_sink_push(struct mj_sink *s, const struct mj_event *ev);
struct mj_reader;
struct mj_owner_cfg;
/* From now on the sink takes the events of that reader, too, in parcels as `cfg` says (max,
 * max_bytes, every_us; the rest is the sink's). Once per reader; after mj_sink_start(). It lets go
 * of it when it stops, or when another takes over. The reader must live until mj_sinks_wait() has
 * returned. On one thread, as mj_sink_stop(). */
void mj_sink_read(struct mj_sink *s, struct mj_reader *reader, const struct mj_owner_cfg *cfg);
/* Whether that was done. */
bool mj_sink_reads(struct mj_sink *s, const struct mj_reader *reader);
/* Ends it without waiting: the thread delivers what is in the ring for `drain_us` at most, counts
 * the rest as dropped, and frees the sink. NULL, and one never started, is fine. */
void mj_sink_stop(struct mj_sink *s, int64_t drain_us);
/* Waits until all sinks that were stopped are gone, for wait_us at most. Those that are not then
 * hang in their plug-ins; they touch no reader any more. Any thread. */
bool mj_sinks_wait(int64_t wait_us);
