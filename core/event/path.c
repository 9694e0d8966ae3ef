#include "event/path.h"

#include "base/err.h"

static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

/* The whole span as a number from 1 to UINT32_MAX, else 0. */
static uint32_t to_index(struct mj_span s)
{
    uint64_t n = 0;
    if (!s.len || s.len > 10 || s.ptr[0] == '0')
        return 0;
    for (size_t i = 0; i < s.len; i++) {
        if (!is_digit(s.ptr[i]))
            return 0;
        n = n * 10 + (s.ptr[i] - '0');
    }
    return n <= UINT32_MAX ? (uint32_t)n : 0;
}

int mj_path_add_key(struct mj_path *path, struct mj_span key)
{
    if (path->count == MJ_PATH_MAX)
        return MJ_ELIMIT;
    path->steps[path->count++] = (struct mj_step){key, to_index(key)};
    return 0;
}

int mj_path_add_index(struct mj_path *path, uint32_t index)
{
    if (path->count == MJ_PATH_MAX)
        return MJ_ELIMIT;
    path->steps[path->count++] = (struct mj_step){{NULL, 0}, index};
    return 0;
}

int mj_path_parse(struct mj_path *path, struct mj_span text)
{
    size_t at = 0;
    while (at < text.len) {
        size_t start = at;
        int err;
        if (text.ptr[at] == '[') {
            while (at < text.len && text.ptr[at] != ']')
                at++;
            uint32_t index = to_index(mj_span(text.ptr + start + 1, at - start - 1));
            if (at == text.len || !index)
                return MJ_ESYNTAX;
            at++;
            err = mj_path_add_index(path, index);
        } else {
            while (at < text.len && text.ptr[at] != '.' && text.ptr[at] != '[')
                at++;
            if (at == start)
                return MJ_ESYNTAX;
            err = mj_path_add_key(path, mj_span(text.ptr + start, at - start));
        }
        if (err)
            return err;
        if (at < text.len && text.ptr[at] == '.' && ++at == text.len)
            return MJ_ESYNTAX;
        else if (at < text.len && text.ptr[at - 1] != '.' && text.ptr[at] != '[')
            return MJ_ESYNTAX; /* "a[1]b" */
    }
    return 0;
}

int mj_path_step(struct mj_span in, const struct mj_step *step, struct mj_span *value)
{
    struct mj_cbor c = mj_cbor(in);
    struct mj_cbor_head head;
    int err = mj_cbor_next(&c, &head);
    if (err)
        return err;
    if (head.type == MJ_CBOR_MAP)
        return step->key.ptr ? mj_cbor_map_get(in, step->key, value) : MJ_ENOENT;
    if (head.type != MJ_CBOR_ARRAY)
        return MJ_ETYPE;
    if (!step->index || step->index > head.n)
        return MJ_ENOENT;
    for (uint32_t i = 1; i < step->index; i++)
        if ((err = mj_cbor_skip_checked(&c)))
            return err;
    *value = mj_span(c.p, (size_t)(c.end - c.p));
    return 0;
}

int mj_path_find(struct mj_span root, const struct mj_path *path, struct mj_span *value)
{
    for (unsigned i = 0; i < path->count; i++) {
        int err = mj_path_step(root, &path->steps[i], &root);
        if (err)
            return err;
    }
    *value = root;
    return 0;
}

struct mj_span mj_cbor_item(struct mj_span in)
{
    struct mj_cbor c = mj_cbor(in);
    if (mj_cbor_skip_checked(&c))
        return mj_span(in.ptr, 0);
    return mj_span(in.ptr, (size_t)(c.p - in.ptr));
}
