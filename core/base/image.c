#include "base/image.h"

static unsigned be16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }
static unsigned le16(const uint8_t *p) { return (unsigned)p[1] << 8 | p[0]; }
static unsigned le24(const uint8_t *p) { return (unsigned)p[2] << 16 | le16(p); }
static uint32_t be32(const uint8_t *p) { return (uint32_t)be16(p) << 16 | be16(p + 2); }
static uint32_t le32(const uint8_t *p) { return (uint32_t)le16(p + 2) << 16 | le16(p); }

static bool starts(struct mj_span s, size_t at, const char *with, size_t len)
{
    return s.len >= at + len && !memcmp(s.ptr + at, with, len);
}

static bool read_png(struct mj_span s, struct mj_image *out)
{
    if (!starts(s, 12, "IHDR", 4) || s.len < 24)
        return false;
    uint32_t width = be32(s.ptr + 16), height = be32(s.ptr + 20);
    *out = (struct mj_image){"image/png", width, height};
    return width <= INT32_MAX && height <= INT32_MAX;
}

static bool read_gif(struct mj_span s, struct mj_image *out)
{
    if (s.len < 10)
        return false;
    *out = (struct mj_image){"image/gif", le16(s.ptr + 6), le16(s.ptr + 8)};
    return true;
}

/* Of an Exif segment's TIFF part: whether the image is shown turned by a quarter. */
static bool turned(struct mj_span tiff)
{
    if (tiff.len < 8)
        return false;
    bool big = tiff.ptr[0] == 'M';
    size_t at = big ? be32(tiff.ptr + 4) : le32(tiff.ptr + 4);
    if (at > tiff.len || tiff.len - at < 2)
        return false;
    size_t n = big ? be16(tiff.ptr + at) : le16(tiff.ptr + at);
    for (at += 2; n-- && tiff.len - at >= 12; at += 12) {
        const uint8_t *entry = tiff.ptr + at;
        if ((big ? be16(entry) : le16(entry)) != 0x112)
            continue;
        unsigned orientation = big ? be16(entry + 8) : le16(entry + 8);
        return orientation >= 5 && orientation <= 8;
    }
    return false;
}

/* Segments follow each other, each with its marker and length, up to the frame's, which has the
 * size. */
static bool read_jpeg(struct mj_span s, struct mj_image *out)
{
    bool quarter = false;
    for (size_t at = 2; at + 4 <= s.len;) {
        if (s.ptr[at] != 0xff)
            return false;
        unsigned marker = s.ptr[at + 1];
        if (marker == 0xff) { /* a fill byte */
            at++;
            continue;
        }
        if (marker == 1 || (marker >= 0xd0 && marker <= 0xd8)) { /* those without a length */
            at += 2;
            continue;
        }
        size_t len = be16(s.ptr + at + 2);
        if (len < 2 || marker == 0xd9 || marker == 0xda || at + 2 + len > s.len)
            return false;
        if (marker == 0xe1 && len >= 8 && starts(s, at + 4, "Exif\0\0", 6))
            quarter = turned(mj_span(s.ptr + at + 10, len - 8));
        /* c4, c8 and cc are tables; the rest of the row are frames of some coding. */
        if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 &&
            marker != 0xcc) {
            if (len < 7)
                return false;
            unsigned height = be16(s.ptr + at + 5), width = be16(s.ptr + at + 7);
            *out =
                (struct mj_image){"image/jpeg", quarter ? height : width, quarter ? width : height};
            return true;
        }
        at += 2 + len;
    }
    return false;
}

static bool read_webp(struct mj_span s, struct mj_image *out)
{
    unsigned width, height;
    if (s.len < 30)
        return false;
    const uint8_t *data = s.ptr + 20;
    if (starts(s, 12, "VP8 ", 4)) { /* lossy: behind the frame's start code */
        if (memcmp(data + 3, "\x9d\x01\x2a", 3) != 0)
            return false;
        width = le16(data + 6) & 0x3fff;
        height = le16(data + 8) & 0x3fff;
    } else if (starts(s, 12, "VP8L", 4)) { /* lossless: 14 bits each, less one */
        if (data[0] != 0x2f)
            return false;
        uint32_t bits = le32(data + 1);
        width = (bits & 0x3fff) + 1;
        height = (bits >> 14 & 0x3fff) + 1;
    } else if (starts(s, 12, "VP8X", 4)) { /* extended: the canvas, less one */
        width = le24(data + 4) + 1;
        height = le24(data + 7) + 1;
    } else {
        return false;
    }
    *out = (struct mj_image){"image/webp", width, height};
    return true;
}

bool mj_image_read(struct mj_span bytes, struct mj_image *out)
{
    bool good = false;
    if (starts(bytes, 0, "\x89PNG\r\n\x1a\n", 8))
        good = read_png(bytes, out);
    else if (starts(bytes, 0, "GIF87a", 6) || starts(bytes, 0, "GIF89a", 6))
        good = read_gif(bytes, out);
    else if (starts(bytes, 0, "\xff\xd8\xff", 3))
        good = read_jpeg(bytes, out);
    else if (starts(bytes, 0, "RIFF", 4) && starts(bytes, 8, "WEBP", 4))
        good = read_webp(bytes, out);
    return good && out->width && out->height;
}
