#include "base/dictionary.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zdict.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/err.h"

#define KEEP_BYTES (256u << 10) /* a larger unpacking buffer goes back after its message */

/* ---- files ---- */

int mj_dictionary_check(struct mj_span bytes, uint32_t *id, const char **why)
{
    static const uint8_t magic[4] = {0x37, 0xa4, 0x30, 0xec};
    *id = 0;
    if (bytes.len > MJ_DICTIONARY_BYTES) {
        *why = "is larger than 16 MiB, which no dictionary of this kind is";
        return MJ_EBIG;
    }
    if (bytes.len < 8 || memcmp(bytes.ptr, magic, sizeof magic)) {
        *why = "is not a zstd dictionary (those start with the bytes 37 a4 30 ec)";
        return MJ_ETYPE;
    }
    uint32_t found = ZDICT_getDictID(bytes.ptr, bytes.len);
    if (!found) {
        *why = "is a zstd dictionary without an id, so no client could tell it from others";
        return MJ_EINVAL;
    }
    /* Each direction reads its own tables, and may refuse what the other takes. */
    ZSTD_DDict *d = ZSTD_createDDict(bytes.ptr, bytes.len);
    ZSTD_CDict *c = d ? ZSTD_createCDict(bytes.ptr, bytes.len, 1) : NULL;
    bool good = d && c;
    ZSTD_freeDDict(d);
    ZSTD_freeCDict(c);
    if (!good) {
        *why = "is a damaged zstd dictionary: get it again";
        return MJ_ESYNTAX;
    }
    *id = found;
    return 0;
}

static int unreadable(struct mj_buf *error, const char *path, const char *what)
{
    mj_buf_printf(error, "%s: %s", path, what);
    return MJ_EIO;
}

/* 0 with the whole file in *out; *missing when there is no such file. */
static int read_file(const char *path, struct mj_buf *out, bool *missing, struct mj_buf *error)
{
    struct stat st;
    /* Non-blocking, so that a pipe without a writer cannot hold the program up. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = 0;
    *missing = fd < 0 && (errno == ENOENT || errno == ENOTDIR);
    if (fd < 0)
        return unreadable(error, path, strerror(errno));
    if (fstat(fd, &st))
        err = unreadable(error, path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        err = unreadable(error, path, "is not a file");
    while (!err && out->len <= MJ_DICTIONARY_BYTES) {
        mj_buf_reserve(out, 64 << 10);
        ssize_t n = read(fd, out->ptr + out->len, 64 << 10);
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            err = unreadable(error, path, strerror(errno));
        out->len += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    return err;
}

static int load(const char *path, struct mj_dictionary *out, bool *missing, struct mj_buf *error)
{
    *out = (struct mj_dictionary){0};
    int err = read_file(path, &out->bytes, missing, error);
    if (!err) {
        const char *why;
        err = mj_dictionary_check(mj_buf_span(&out->bytes), &out->id, &why);
        if (err)
            mj_buf_printf(error, "%s %s", path, why);
    }
    if (err)
        mj_dictionary_deinit(out);
    else
        out->path = mj_strdup(path);
    return err;
}

int mj_dictionary_load(const char *path, struct mj_dictionary *out, struct mj_buf *error)
{
    bool missing;
    return load(path, out, &missing, error);
}

void mj_dictionary_deinit(struct mj_dictionary *d)
{
    mj_buf_deinit(&d->bytes);
    free(d->path);
    *d = (struct mj_dictionary){0};
}

static char *join(const char *dir, int len, const char *rest)
{
    struct mj_buf b = {0};
    mj_buf_printf(&b, "%.*s/%s", len, dir, rest);
    mj_buf_cstr(&b);
    return (char *)b.ptr;
}

static size_t places_of(const char *exe, const char *data, char *out[MJ_DICTIONARY_PLACES])
{
    size_t n = 0;
    if (data && *data)
        out[n++] = join(data, (int)strlen(data), MJ_DICTIONARY_FILE);
    const char *bin = strrchr(exe, '/');
    const char *up = bin ? memrchr(exe, '/', (size_t)(bin - exe)) : NULL;
    if (!up)
        return n;
    int len = (int)(up - exe);
    bool is_build = len >= 6 && memcmp(up - 6, "/build", 6) == 0;
    if (is_build)
        out[n++] = join(exe, len, MJ_DICTIONARY_FILE);
    out[n++] = join(exe, len, "share/moonjet/" MJ_DICTIONARY_FILE);
    return n;
}

size_t mj_dictionary_places(const char *data, char *out[MJ_DICTIONARY_PLACES])
{
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    return places_of(exe, data, out);
}

int mj_dictionary_find(const char *named, const char *data, struct mj_dictionary *out,
                       struct mj_buf *error)
{
    if (named && *named)
        return mj_dictionary_load(named, out, error);
    char *places[MJ_DICTIONARY_PLACES];
    size_t n = mj_dictionary_places(data, places), before = error->len;
    int err = MJ_ENOENT;
    *out = (struct mj_dictionary){0};
    for (size_t i = 0; i < n; i++) {
        bool missing = false;
        if (err == MJ_ENOENT) {
            err = load(places[i], out, &missing, error);
            if (missing) {
                error->len = before;
                err = MJ_ENOENT;
            }
        }
        free(places[i]);
    }
    return err;
}

void mj_sha256_hex(struct mj_span bytes, char out[65])
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256(bytes.ptr, bytes.len, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

/* ---- messages ---- */

struct mj_zmessage {
    ZSTD_DCtx *ctx;   /* owned */
    ZSTD_DDict *dict; /* owned; NULL for none */
    uint32_t id;      /* of dict; 0 for none */
    size_t limit;
    struct mj_buf out;
};

struct mj_zmessage *mj_zmessage_new(struct mj_span dictionary, size_t limit)
{
    struct mj_zmessage *z = mj_calloc(1, sizeof *z);
    z->limit = limit;
    z->ctx = ZSTD_createDCtx();
    if (dictionary.len) {
        z->dict = ZSTD_createDDict(dictionary.ptr, dictionary.len);
        z->id = ZSTD_getDictID_fromDict(dictionary.ptr, dictionary.len);
    }
    if (!z->ctx || (dictionary.len && !z->dict)) {
        mj_zmessage_free(z);
        return NULL;
    }
    return z;
}

void mj_zmessage_free(struct mj_zmessage *z)
{
    if (!z)
        return;
    ZSTD_freeDCtx(z->ctx);
    ZSTD_freeDDict(z->dict);
    mj_buf_deinit(&z->out);
    free(z);
}

uint32_t mj_zmessage_wants(struct mj_span in) { return ZSTD_getDictID_fromFrame(in.ptr, in.len); }

static int explain(size_t code)
{
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_checksum_wrong:
        return MJ_EHASH;
    case ZSTD_error_dictionary_wrong:
        return MJ_EMISMATCH;
    case ZSTD_error_memory_allocation:
        return MJ_ENOMEM;
    default:
        return MJ_ESYNTAX;
    }
}

int mj_zmessage_decode(struct mj_zmessage *z, struct mj_span in, struct mj_span *out)
{
    static const uint8_t magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
    *out = (struct mj_span){0};
    /* One frame, exactly, and not one of libzstd's other formats; nothing is unpacked for that. */
    if (in.len < sizeof magic || memcmp(in.ptr, magic, sizeof magic) ||
        ZSTD_findFrameCompressedSize(in.ptr, in.len) != in.len)
        return MJ_ESYNTAX;
    uint32_t wants = mj_zmessage_wants(in);
    if (wants && wants != z->id)
        return MJ_EMISMATCH;
    unsigned long long said = ZSTD_getFrameContentSize(in.ptr, in.len);
    if (said == ZSTD_CONTENTSIZE_ERROR)
        return MJ_ESYNTAX;
    bool known = said != ZSTD_CONTENTSIZE_UNKNOWN;
    if (known && said > z->limit)
        return MJ_EBIG;
    /* Where the frame keeps its size to itself the room grows until it fits, in few steps. */
    size_t room = known ? (size_t)said : 4 * in.len + 1024, n;
    for (;; room *= 4) {
        room = room < z->limit ? room : z->limit;
        if (z->out.cap > KEEP_BYTES && room <= KEEP_BYTES)
            mj_buf_deinit(&z->out);
        z->out.len = 0;
        if (mj_buf_try_reserve(&z->out, room ? room : 1))
            return MJ_ENOMEM;
        n = ZSTD_decompress_usingDDict(z->ctx, z->out.ptr, room, in.ptr, in.len, z->dict);
        if (ZSTD_getErrorCode(n) != ZSTD_error_dstSize_tooSmall)
            break;
        if (known)
            return MJ_ESYNTAX; /* it holds more than it says */
        if (room == z->limit)
            return MJ_EBIG;
    }
    if (ZSTD_isError(n))
        return explain(n);
    *out = mj_span(z->out.ptr, n);
    return 0;
}
