/* What kind of image some bytes are, and how large it is: from the head of a PNG, GIF, JPEG or
 * WebP, without decoding a pixel. Posts say the aspect ratio, so that apps keep room for an image
 * before they have it. */
#pragma once

#include "base/bytes.h"

struct mj_image {
    const char *type;       /* "image/png", "image/gif", "image/jpeg", "image/webp" */
    unsigned width, height; /* pixels as they are shown: a camera's rotation is applied */
};

/* Fills *out; false when it is no such image, or its head is broken or cut off. Any bytes will
 * do. */
bool mj_image_read(struct mj_span bytes, struct mj_image *out);
