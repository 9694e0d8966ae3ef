#include "script/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/hash.h"
#include "script/vm.h"

/* 0 or an errno. Regular files only: reading a pipe could wait for ever. */
static int read_file(const char *path, struct mj_buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0)
        return errno;
    int err = fstat(fd, &st)        ? errno
              : S_ISREG(st.st_mode) ? 0
              : S_ISDIR(st.st_mode) ? EISDIR
                                    : EINVAL;
    if (!err && st.st_size > MJ_SOURCE_MAX)
        err = EFBIG;
    while (!err && out->len <= MJ_SOURCE_MAX) {
        mj_buf_reserve(out, 65536);
        ssize_t n = read(fd, out->ptr + out->len, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            err = errno;
        if (n <= 0)
            break;
        out->len += (size_t)n;
    }
    if (!err && out->len > MJ_SOURCE_MAX)
        err = EFBIG;
    close(fd);
    return err;
}

int mj_load_source(lua_State *L, const char *path, const char *shown)
{
    struct mj_buf text = {0};
    int err = read_file(path, &text);
    if (err) {
        mj_buf_deinit(&text);
        lua_pushfstring(L, "%s: %s", shown, strerror(err));
        return LUA_ERRFILE;
    }
    mj_sources_add(&mj_vm_of(L)->sources, path, mj_buf_span(&text));
    if (text.len && text.ptr[0] == '\033') {
        mj_buf_deinit(&text);
        lua_pushfstring(L, "%s: is bytecode; only source text is loaded", shown);
        return LUA_ERRSYNTAX;
    }
    /* "#!/usr/bin/env moonjet" is for the shell. The line stays, so that numbers are right. */
    if (text.len > 1 && text.ptr[0] == '#') {
        text.ptr[0] = '-';
        text.ptr[1] = '-';
    }
    char name[256];
    snprintf(name, sizeof name, "@%s", shown);
    int status = luaL_loadbufferx(L, text.len ? (const char *)text.ptr : "", text.len, name, "t");
    mj_buf_deinit(&text);
    return status;
}

static uint64_t hash_file(const struct mj_source_file *file)
{
    MJ_AUTO_BUF text = {0};
    struct stat st;
    if (!file->data)
        return read_file(file->path, &text) ? 0 : mj_hash(mj_buf_span(&text));
    if (stat(file->path, &st))
        return 0;
    const int64_t parts[] = {st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_size, (int64_t)st.st_ino};
    return mj_hash(mj_span(parts, sizeof parts));
}

void mj_sources_add_data(struct mj_sources *s, const char *path)
{
    mj_sources_add(s, path, (struct mj_span){NULL, 0});
    struct mj_source_file *file = &s->files[s->count - 1];
    file->data = true;
    file->hash = hash_file(file);
}

void mj_sources_add(struct mj_sources *s, const char *path, struct mj_span bytes)
{
    s->files = mj_realloc(s->files, (s->count + 1) * sizeof *s->files);
    s->files[s->count++] = (struct mj_source_file){.path = mj_strdup(path), .hash = mj_hash(bytes)};
}

bool mj_sources_changed(const struct mj_sources *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (hash_file(&s->files[i]) != s->files[i].hash)
            return true;
    return false;
}

void mj_sources_deinit(struct mj_sources *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->files[i].path);
    free(s->files);
    *s = (struct mj_sources){0};
}
