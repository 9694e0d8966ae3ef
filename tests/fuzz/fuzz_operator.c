/* strip, keep and redact with random paths over random records. Whatever they do, the record stays
 * valid DRISL; keep leaves what its paths name as it was and nothing beside, strip the opposite.
 *
 * Input: the paths, separated by newlines; an empty line; the record. */
#include "atproto/cbor.h"
#include "base/err.h"
#include "flow/operator.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

static struct mj_span run(enum mj_node_type type, const struct mj_span *paths, size_t n,
                          struct mj_span record, struct mj_node *node)
{
    struct mj_operator_cfg cfg = {
        .type = type, .paths = paths, .path_count = n, .text = MJ_SPAN("\xe2\x80\xa6")};
    MJ_AUTO_BUF error = {0};
    struct mj_event ev = {.kind = MJ_KIND_COMMIT, .op = MJ_OP_CREATE, .record = record};
    *node = (struct mj_node){.type = type, .file = "fuzz", .name = "fuzz"};
    if (mj_operator_new(&cfg, &node->op, &error)) {
        CHECK(error.len);
        return mj_span(NULL, 0);
    }
    CHECK(mj__operator_run(node, &ev) == MJ_VERDICT_PASS);
    CHECK(mj_cbor_check(node->patch.record) == 0);
    return node->patch.record;
}

static void finish(struct mj_node *node)
{
    mj_operator_free(node->op);
    mj_patch_deinit(&node->patch);
}

static bool look_up(struct mj_span record, struct mj_span text, struct mj_span *item)
{
    struct mj_path path = {.count = 0};
    if (mj_path_parse(&path, text) || mj_path_find(record, &path, item))
        return false;
    *item = mj_cbor_item(*item);
    return true;
}

/* A path with a list on its way names another item once those before it are gone. */
static bool has_index(struct mj_span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] == '[' || (text.ptr[i] >= '0' && text.ptr[i] <= '9'))
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mj_span paths[MJ_OPERATOR_PATHS], was, is;
    struct mj_node node;
    size_t n = 0, at = 0;
    bool lists = false;
    while (at < size && data[at] != '\n' && n < MJ_OPERATOR_PATHS) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t len = end ? (size_t)(end - data) - at : size - at;
        lists |= has_index(mj_span(data + at, len));
        paths[n++] = mj_span(data + at, len);
        at += len + (end != NULL);
    }
    at += at < size;
    struct mj_span record = mj_span(data + at, size - at);
    struct mj_cbor c = mj_cbor(record);
    struct mj_cbor_head head;
    if (!n || mj_cbor_check(record) || mj_cbor_next(&c, &head) || head.type != MJ_CBOR_MAP)
        return 0;

    struct mj_span kept = run(MJ_NODE_KEEP, paths, n, record, &node);
    if (kept.ptr) {
        CHECK(kept.len <= record.len);
        for (size_t i = 0; i < n && !lists; i++) {
            bool there = look_up(record, paths[i], &was);
            CHECK(look_up(kept, paths[i], &is) == there);
            CHECK(!there || mj_span_eq(was, is));
        }
        /* What is left is left once more. */
        struct mj_node again;
        if (!lists)
            CHECK(mj_span_eq(run(MJ_NODE_KEEP, paths, n, kept, &again), kept));
        else
            again = (struct mj_node){0};
        finish(&again);
    }
    finish(&node);

    struct mj_span left = run(MJ_NODE_STRIP, paths, n, record, &node);
    for (size_t i = 0; left.ptr && i < n && !lists; i++)
        CHECK(!look_up(left, paths[i], &is));
    finish(&node);

    struct mj_span redacted = run(MJ_NODE_REDACT, paths, 1, record, &node);
    if (redacted.ptr && look_up(record, paths[0], &was) && was.ptr[0] >> 5 == 3)
        CHECK(look_up(redacted, paths[0], &is) && mj_span_eq(is, mj_span("\x63\xe2\x80\xa6", 4)));
    finish(&node);
    return 0;
}
