/* Heads of images: no byte is read past their end, and what is read is a size. */
#include "base/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mj_image image;
    if (mj_image_read(mj_span(data, size), &image) &&
        (!image.width || !image.height || !image.type))
        __builtin_trap();
    return 0;
}
