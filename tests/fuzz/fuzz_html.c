/* Heads of web pages: what is found lies within the page, each behind the one before, and its text
 * is UTF-8 without control characters and not longer than asked. */
#include "atproto/html.h"
#include "atproto/utf8.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

#define TEXT_MAX 50

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mj_html walk = {.page = mj_span(data, size)};
    struct mj_meta meta;
    struct mj_buf text = {0};
    size_t before = 0;
    while (mj_html_next(&walk, &meta)) {
        CHECK(meta.name.len && meta.content.len);
        CHECK(meta.content.ptr >= data && meta.content.ptr + meta.content.len <= data + size);
        CHECK(walk.at > before && walk.at <= size);
        before = walk.at;
        text.len = 0;
        mj_html_text(meta.content, TEXT_MAX, &text);
        CHECK(text.len <= TEXT_MAX && mj_utf8_valid(mj_buf_span(&text)));
        for (size_t i = 0; i < text.len; i++)
            CHECK(text.ptr[i] >= ' ' && text.ptr[i] != 0x7f);
    }
    mj_buf_deinit(&text);
    return 0;
}
