/* Images: sizes from the seeds of the fuzz target, which are heads of each kind, whole and cut off.
 */
#include <stdio.h>

#include "cmocka_all.h"

#include "base/image.h"

/* Reads the seed as a block of just its length. */
static uint8_t *seed(const char *name, size_t *len)
{
    char path[128];
    static uint8_t bytes[4096];
    snprintf(path, sizeof path, "tests/fuzz/corpus/image/%s", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    *len = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    uint8_t *copy = mj_calloc(*len, 1);
    memcpy(copy, bytes, *len);
    return copy;
}

static void sizes_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *name, *type;
        unsigned width, height;
        size_t needs; /* of its bytes */
    } cases[] = {
        {"png", "image/png", 640, 480, 24},
        {"gif", "image/gif", 3, 5, 10},
        {"jpeg", "image/jpeg", 640, 480, 39},
        {"jpeg_turned", "image/jpeg", 480, 640, 59},
        {"jpeg_turned_le", "image/jpeg", 480, 640, 62},
        {"webp_lossy", "image/webp", 320, 200, 30},
        {"webp_lossless", "image/webp", 320, 200, 30},
        {"webp_extended", "image/webp", 320, 200, 30},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        size_t len;
        struct mj_image image = {0};
        uint8_t *bytes = seed(cases[i].name, &len);
        print_message("%s\n", cases[i].name);
        assert_true(mj_image_read(mj_span(bytes, len), &image));
        assert_string_equal(image.type, cases[i].type);
        assert_int_equal(image.width, cases[i].width);
        assert_int_equal(image.height, cases[i].height);
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *part = mj_calloc(cut + 1, 1);
            memcpy(part, bytes, cut);
            assert_int_equal(mj_image_read(mj_span(part, cut), &image), cut >= cases[i].needs);
            free(part);
        }
        free(bytes);
    }
}

static void others_are_none(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "BM", "<svg/>", "GIF89a\0\0\0\0", "\xff\xd8\xff\xd9"};
    struct mj_image image;
    for (size_t i = 0; i < MJ_COUNT(texts); i++)
        assert_false(mj_image_read(mj_str(texts[i]), &image));
    assert_false(mj_image_read(mj_span("GIF89a\0\0\0\0", 10), &image));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read),
        cmocka_unit_test(others_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
