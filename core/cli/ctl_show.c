/* JSON as text, whatever its members are called: so the client shows what a newer server tells. */
#include "base/err.h"
#include "base/json.h"
#include "cli/ctl.h"
#include "cli/text.h"

#define COLUMNS_MAX 32
#define CELL_MAX    60 /* characters */
#define DEPTH_MAX   16 /* objects in objects */

static void show(struct mj_span raw, int type, const char *path, unsigned depth,
                 struct mj_buf *out);

/* A value as the text of a cell. */
static void cell(struct mj_span raw, int type, size_t max, struct mj_buf *out)
{
    MJ_AUTO_BUF text = {0};
    if (type == MJ_JSON_NULL)
        return;
    if (type == MJ_JSON_STRING)
        mj_json_text(raw, &text);
    else if (type == MJ_JSON_BOOL)
        mj_buf_puts(&text, mj_span_is(raw, "true") ? "yes" : "no");
    else
        mj_buf_put(&text, raw.ptr, raw.len);
    mj_text_harmless(mj_buf_span(&text), max, out);
}

static size_t width(struct mj_span text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += (text.ptr[i] & 0xc0) != 0x80;
    return n;
}

static void pad(size_t n, struct mj_buf *out)
{
    while (n--)
        mj_buf_putc(out, ' ');
}

struct column {
    struct mj_span key; /* raw */
    size_t width;
    bool numbers; /* nothing else, so set to the right */
};

static struct column *column_of(struct column *columns, size_t n, struct mj_span key)
{
    for (size_t i = 0; i < n; i++)
        if (mj_span_eq(columns[i].key, key))
            return &columns[i];
    return NULL;
}

/* The columns of a list of objects, in the order they are met. */
static size_t find_columns(struct mj_span list, struct column *columns)
{
    struct mj_span rest = mj_json_inside(list), row, key, raw;
    size_t n = 0;
    int type;
    while (mj_json_element(&rest, &row) == MJ_JSON_OBJECT) {
        struct mj_span members = mj_json_inside(row);
        while ((type = mj_json_member(&members, &key, &raw)) >= 0) {
            MJ_AUTO_BUF text = {0};
            struct column *c = column_of(columns, n, key);
            if (!c && n < COLUMNS_MAX) {
                cell(key, MJ_JSON_STRING, CELL_MAX, &text);
                c = &columns[n++];
                *c = (struct column){key, width(mj_buf_span(&text)), true};
            }
            if (!c)
                continue;
            text.len = 0;
            cell(raw, type, CELL_MAX, &text);
            size_t w = width(mj_buf_span(&text));
            c->width = w > c->width ? w : c->width;
            c->numbers = c->numbers && (type == MJ_JSON_NUMBER || type == MJ_JSON_NULL);
        }
    }
    return n;
}

static void put_cell(const struct column *c, bool last, struct mj_span raw, int type,
                     struct mj_buf *out)
{
    MJ_AUTO_BUF text = {0};
    if (type >= 0)
        cell(raw, type, CELL_MAX, &text);
    size_t w = width(mj_buf_span(&text)), room = c->width > w ? c->width - w : 0;
    if (c->numbers)
        pad(room, out);
    mj_buf_put(out, text.ptr, text.len);
    if (!c->numbers && !last)
        pad(room, out);
    mj_buf_puts(out, last ? "\n" : "  ");
}

static void table(struct mj_span list, struct mj_buf *out)
{
    struct column columns[COLUMNS_MAX];
    size_t n = find_columns(list, columns);
    struct mj_span rest = mj_json_inside(list), row, key, raw;
    for (size_t i = 0; i < n; i++)
        put_cell(&columns[i], i + 1 == n, columns[i].key, MJ_JSON_STRING, out);
    while (mj_json_element(&rest, &row) == MJ_JSON_OBJECT)
        for (size_t i = 0; i < n; i++) {
            struct mj_span members = mj_json_inside(row);
            int type;
            while ((type = mj_json_member(&members, &key, &raw)) >= 0)
                if (mj_span_eq(key, columns[i].key))
                    break;
            put_cell(&columns[i], i + 1 == n, raw, type, out);
        }
}

static void array(struct mj_span list, const char *path, unsigned depth, struct mj_buf *out)
{
    struct mj_span rest = mj_json_inside(list), element;
    bool objects = true, any = false;
    int type;
    while ((type = mj_json_element(&rest, &element)) >= 0) {
        objects = objects && type == MJ_JSON_OBJECT;
        any = true;
    }
    if (*path)
        mj_buf_printf(out, "%s%s%s\n", out->len ? "\n" : "", path, any ? "" : ": none");
    if (!any)
        return;
    if (objects) {
        table(list, out);
        return;
    }
    rest = mj_json_inside(list);
    while ((type = mj_json_element(&rest, &element)) >= 0) {
        if (type == MJ_JSON_OBJECT || type == MJ_JSON_ARRAY) {
            show(element, type, "", depth + 1, out);
        } else {
            cell(element, type, SIZE_MAX, out);
            mj_buf_putc(out, '\n');
        }
    }
}

/* Members that are values, a line each; inner ones as "outer.inner". */
static void scalars(struct mj_span object, const char *path, size_t indent, unsigned depth,
                    struct mj_buf *out, size_t *longest)
{
    struct mj_span rest = mj_json_inside(object), key, raw;
    int type;
    while ((type = mj_json_member(&rest, &key, &raw)) >= 0) {
        MJ_AUTO_BUF name = {0};
        mj_buf_printf(&name, "%s%s", path, *path ? "." : "");
        cell(key, MJ_JSON_STRING, CELL_MAX, &name);
        if (type == MJ_JSON_OBJECT && depth < DEPTH_MAX) {
            scalars(raw, mj_buf_cstr(&name), indent, depth + 1, out, longest);
        } else if (type != MJ_JSON_ARRAY && !mj_span_is(mj_buf_span(&name), "ok")) {
            size_t w = width(mj_buf_span(&name));
            if (longest) {
                *longest = w > *longest ? w : *longest;
                continue;
            }
            mj_buf_put(out, name.ptr, name.len);
            pad(indent > w ? indent - w : 0, out);
            mj_buf_puts(out, "  ");
            cell(raw, type, SIZE_MAX, out);
            mj_buf_putc(out, '\n');
        }
    }
}

static void arrays(struct mj_span object, const char *path, unsigned depth, struct mj_buf *out)
{
    struct mj_span rest = mj_json_inside(object), key, raw;
    int type;
    while ((type = mj_json_member(&rest, &key, &raw)) >= 0) {
        MJ_AUTO_BUF name = {0};
        mj_buf_printf(&name, "%s%s", path, *path ? "." : "");
        cell(key, MJ_JSON_STRING, CELL_MAX, &name);
        if (type == MJ_JSON_ARRAY)
            array(raw, mj_buf_cstr(&name), depth, out);
        else if (type == MJ_JSON_OBJECT && depth < DEPTH_MAX)
            arrays(raw, mj_buf_cstr(&name), depth + 1, out);
    }
}

static void show(struct mj_span raw, int type, const char *path, unsigned depth, struct mj_buf *out)
{
    if (type == MJ_JSON_OBJECT && depth < DEPTH_MAX) {
        size_t longest = 0;
        scalars(raw, path, 0, depth, NULL, &longest);
        scalars(raw, path, longest, depth, out, NULL);
        arrays(raw, path, depth, out);
    } else if (type == MJ_JSON_ARRAY && depth < DEPTH_MAX) {
        array(raw, path, depth, out);
    } else {
        cell(raw, type, SIZE_MAX, out);
        mj_buf_putc(out, '\n');
    }
}

/* {"text":"…"} is text that the server has laid out itself. */
static bool laid_out(struct mj_span object, struct mj_buf *text)
{
    struct mj_span rest = mj_json_inside(object), key, raw;
    int type;
    bool found = false;
    while ((type = mj_json_member(&rest, &key, &raw)) >= 0) {
        if (type == MJ_JSON_STRING && mj_span_is(key, "\"text\"")) {
            mj_json_text(raw, text);
            found = true;
        } else if (!mj_span_is(key, "\"ok\"")) {
            return false;
        }
    }
    return found;
}

bool mj__ctl_show(struct mj_span json, struct mj_buf *out)
{
    struct mj_span rest = json, raw;
    MJ_AUTO_BUF text = {0};
    int type = mj_json_take(&rest, &raw);
    if (type < 0 || rest.len)
        return false;
    if (type != MJ_JSON_OBJECT || !laid_out(raw, &text)) {
        show(raw, type, "", 0, out);
        return true;
    }
    for (struct mj_span lines = mj_buf_span(&text); lines.len;) {
        const uint8_t *end = memchr(lines.ptr, '\n', lines.len);
        size_t n = end ? (size_t)(end - lines.ptr) : lines.len;
        mj_text_harmless(mj_span(lines.ptr, n), SIZE_MAX, out);
        mj_buf_putc(out, '\n');
        lines = mj_span(lines.ptr + n + (end != NULL), lines.len - n - (end != NULL));
    }
    return true;
}
