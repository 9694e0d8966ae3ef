#include "event/jetstream.h"

#include "event/json_out.h"
#include "event/patch.h"

/* A field of the envelope: the literal up to the value, then the value as a JSON string. The room
 * for the literal is the slack that the value before left. FIELD takes any text, PLAIN one whose
 * syntax may have been checked. */
#define FIELD(o, lit, s)     (MJ__PUT(o, lit), text(o, s))
#define PLAIN(o, lit, ev, s) (MJ__PUT(o, lit), (ev)->plain ? plain(o, s) : text(o, s))

static int text(struct mj__out *o, struct mj_span s)
{
    if (s.len == 0) /* absent is printed like empty */
        s = MJ_SPAN("");
    return mj__out_text(o, s, s.ptr + s.len);
}

static inline int plain(struct mj__out *o, struct mj_span s)
{
    int err = mj__out_room(o, s.len);
    if (err)
        return err;
    uint8_t *w = o->w;
    *w++ = '"';
    if (s.len)
        memcpy(w, s.ptr, s.len);
    w += s.len;
    *w++ = '"';
    o->w = w;
    return 0;
}

static int put_commit(struct mj__out *o, const struct mj_event *ev)
{
    int err;
    if ((err = PLAIN(o, ",\"kind\":\"commit\",\"commit\":{\"rev\":", ev, ev->rev)))
        return err;
    switch (ev->op) {
    case MJ_OP_CREATE:
        MJ__PUT(o, ",\"operation\":\"create\"");
        break;
    case MJ_OP_UPDATE:
        MJ__PUT(o, ",\"operation\":\"update\"");
        break;
    case MJ_OP_DELETE:
        MJ__PUT(o, ",\"operation\":\"delete\"");
        break;
    default:
        return MJ_EACTION;
    }
    if ((err = PLAIN(o, ",\"collection\":", ev, ev->collection)) ||
        (err = PLAIN(o, ",\"rkey\":", ev, ev->rkey)))
        return err;
    if (ev->op == MJ_OP_DELETE)
        return 0;
    MJ__PUT(o, ",\"record\":");
    if ((err = mj__out_value(o, ev->record, true)))
        return err;
    if (ev->cid.len == 0)
        return 0;
    if (ev->cid.len > MJ_CID_MAX)
        return MJ_ECID;
    if ((err = mj__out_room(o, 2 * MJ_CID_MAX)))
        return err;
    MJ__PUT(o, ",\"cid\":\"");
    o->w += mj_cid_text(ev->cid, (char *)o->w);
    *o->w++ = '"';
    return 0;
}

static int put_identity(struct mj__out *o, const struct mj_event *ev)
{
    int err;
    if ((err = FIELD(o, ",\"kind\":\"identity\",\"identity\":{\"did\":", ev->did)))
        return err;
    if (ev->handle.ptr && (err = FIELD(o, ",\"handle\":", ev->handle)))
        return err;
    MJ__PUT(o, ",\"seq\":");
    mj__out_int(o, ev->seq);
    return FIELD(o, ",\"time\":", ev->time);
}

static int put_account(struct mj__out *o, const struct mj_event *ev)
{
    int err;
    MJ__PUT(o, ",\"kind\":\"account\",\"account\":{\"active\":");
    if (ev->active)
        MJ__PUT(o, "true");
    else
        MJ__PUT(o, "false");
    if ((err = mj__out_room(o, 0)) || (err = FIELD(o, ",\"did\":", ev->did)))
        return err;
    MJ__PUT(o, ",\"seq\":");
    mj__out_int(o, ev->seq);
    if (ev->status.ptr &&
        ((err = mj__out_room(o, 0)) || (err = FIELD(o, ",\"status\":", ev->status))))
        return err;
    return FIELD(o, ",\"time\":", ev->time);
}

int mj_jetstream_encode(const struct mj_event *ev, const struct mj_patch *patch, struct mj_buf *out)
{
    struct mj_event edited;
    struct mj__out o;
    if (patch && mj_patch_changed(patch)) {
        mj_patch_event(patch, ev, &edited);
        ev = &edited;
    }
    int err = mj__out_begin(&o, out);
    if (err || (err = PLAIN(&o, "{\"did\":", ev, ev->did)))
        return err;
    MJ__PUT(&o, ",\"time_us\":");
    mj__out_int(&o, ev->time_us);
    switch (ev->kind) {
    case MJ_KIND_COMMIT:
        err = put_commit(&o, ev);
        break;
    case MJ_KIND_IDENTITY:
        err = put_identity(&o, ev);
        break;
    case MJ_KIND_ACCOUNT:
        err = put_account(&o, ev);
        break;
    default:
        err = MJ_EINVAL;
    }
    if (err)
        return err;
    MJ__PUT(&o, "}}");
    mj__out_commit(&o);
    return 0;
}
