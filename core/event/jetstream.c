#include "event/jetstream.h"

#include "event/json_out.h"

/* A field of the envelope: the literal up to the value, then the value as a JSON string. The room
 * for the literal is the slack that the value before left. */
#define FIELD(o, lit, s) (MJ__PUT(o, lit), text(o, s))

static int text(struct mj__out *o, struct mj_span s) { return mj__out_text(o, s, s.ptr + s.len); }

static int put_commit(struct mj__out *o, const struct mj_event *ev)
{
    int err;
    if ((err = FIELD(o, ",\"kind\":\"commit\",\"commit\":{\"rev\":", ev->rev)))
        return err;
    const char *op = mj_op_name(ev->op);
    if ((err = FIELD(o, ",\"operation\":", mj_str(op))) ||
        (err = FIELD(o, ",\"collection\":", ev->collection)) ||
        (err = FIELD(o, ",\"rkey\":", ev->rkey)))
        return err;
    if (ev->op == MJ_OP_DELETE)
        return 0;
    const uint8_t *p = ev->record.ptr, *end = ev->record.ptr + ev->record.len;
    MJ__PUT(o, ",\"record\":");
    if ((err = mj__out_value(o, &p, end, true)))
        return err;
    if (p != end)
        return MJ_ETRAILING;
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
    (void)patch;
    struct mj__out o;
    int err = mj__out_begin(&o, out);
    if (err || (err = FIELD(&o, "{\"did\":", ev->did)))
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
