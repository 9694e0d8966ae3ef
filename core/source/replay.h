/* A capture as a firehose: the feed behind `moonjet replay`, for the relay's pull mode.
 *
 *   as fast as read   every client without a cursor gets the capture from its start, at its speed
 *   rate, own pace    one clock for all, started by the first client; who comes later without a
 *                     cursor joins live
 *   loop              the capture again and again; from the second pass on each seq is raised by
 *                     the capture's span, re-encoded, whatever the width of the integer
 *
 * A position is pass * frames + index. Frames are served as they are, damaged ones included. */
#pragma once

#include "source/relay.h"

struct mj_replay_cfg {
    const char *path; /* a capture; borrowed during the call */
    bool loop;
    bool own_pace; /* by the frames' `time` */
    double rate;   /* frames per second; 0 = not limited. Not with own_pace */
};

struct mj_replay;

/* Loads the capture into memory. 0; or an error of mj_capture_next() (but a tear behind whole
 * frames is none, see mj_replay_torn()), MJ_ENOENT when there is no
 * frame in it, MJ_EINVAL for rate with own_pace or loop without any seq. */
int mj_replay_open(const struct mj_replay_cfg *cfg, struct mj_replay **out);
/* After the relay has stopped. NULL is fine. */
void mj_replay_close(struct mj_replay *r);
size_t mj_replay_frames(const struct mj_replay *r);
/* Bytes of all frames. */
size_t mj_replay_bytes(const struct mj_replay *r);
/* The capture ended inside a frame; those before it are served. */
bool mj_replay_torn(const struct mj_replay *r);
struct mj_relay_feed mj_replay_feed(struct mj_replay *r);
