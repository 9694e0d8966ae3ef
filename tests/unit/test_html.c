/* Heads of web pages: which titles and metas are found, and how their texts read. */
#include "cmocka_all.h"

#include "atproto/html.h"

/* "name=text|name=text" of a page. */
static const char *head(const char *page, struct mj_buf *out)
{
    struct mj_html walk = {.page = mj_str(page)};
    struct mj_meta meta;
    out->len = 0;
    while (mj_html_next(&walk, &meta)) {
        if (out->len)
            mj_buf_putc(out, '|');
        mj_buf_put(out, meta.name.ptr, meta.name.len);
        mj_buf_putc(out, '=');
        mj_html_text(meta.content, 40, out);
    }
    return mj_buf_cstr(out);
}

static void heads_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *page, *head;
    } cases[] = {
        {"", ""},
        {"no page", ""},
        {"<title>Moon &amp; Jet</title>", "title=Moon & Jet"},
        {"<TITLE lang=en>\n Two\n lines </TITLE >", "title=Two lines"},
        {"<meta property=\"og:title\" content=\"A\"><meta name='description' content='B \"c\"'/>",
         "og:title=A|description=B \"c\""},
        {"<META CONTENT=bare\nPROPERTY = og:title>", "og:title=bare"},
        {"<meta name=x property=og:image content=y>", "og:image=y"},
        {"<meta charset=utf-8><meta name=a><meta content=b><metal name=a content=b>", ""},
        {"<!-- <meta name=a content=b> --><meta name=c content=d>", "c=d"},
        {"<script>'<meta name=a content=b>'</script><meta name=c content=d>", "c=d"},
        {"<style><title>x</title></style><title>y</title>", "title=y"},
        {"<title>a</title><body><meta name=c content=d>", "title=a"},
        {"<meta name=a content='x > y'><meta name=b content=\"unended", "a=x > y|b=unended"},
        {"<title>unended", "title=unended"},
        {"<title></title><", ""},
        {"<meta name=a content=1 content=2 disabled>", "a=2"},
        {"<meta = name=a content=b>", "a=b"},
        /* texts */
        {"<title>&lt;&#65;&#x42;&hellip;&nope;&;&#;&#x;&#xd800;&amp</title>",
         "title=<AB\u2026&nope;&;&#;&#x;&#xd800;&amp"},
        {"<title>caf\xe9 \xc3\xa9 &#233;</title>", "title=caf\u00e9 \u00e9 \u00e9"},
        {"<title>a\x01\x7f b&#10;c</title>", "title=a b c"},
        {"<title>0123456789012345678901234567890123456789x</title>",
         "title=0123456789012345678901234567890123456789"},
        {"<title>012345678901234567890123456789012345678\u00e9</title>",
         "title=012345678901234567890123456789012345678"},
    };
    MJ_AUTO_BUF out = {0};
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        if (strcmp(head(cases[i].page, &out), cases[i].head) != 0)
            fail_msg("%s: %s, not %s", cases[i].page, mj_buf_cstr(&out), cases[i].head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(heads_are_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
