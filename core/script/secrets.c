#include "script/secrets.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

static bool name_valid(const char *name)
{
    size_t n = 0;
    for (; isalnum((unsigned char)name[n]) || name[n] == '_'; n++)
        ;
    return n && n <= 64 && !name[n];
}

static bool holds(const struct mj_strings *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->v[i], name) == 0)
            return true;
    return false;
}

/* "NAME=value" of a list. */
static bool find_given(const struct mj_strings *list, const char *name, struct mj_buf *value)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < list->n; i++)
        if (strncmp(list->v[i], name, n) == 0 && list->v[i][n] == '=') {
            mj_buf_puts(value, list->v[i] + n + 1);
            return true;
        }
    return false;
}

/* Reads DIR/NAME, without the line's end. 0, MJ_ENOENT, or MJ_EIO with a sentence. */
static int read_file(const char *dir, const char *name, struct mj_buf *value, struct mj_buf *error)
{
    MJ_AUTO_BUF path = {0};
    struct stat st;
    if (!dir || !*dir)
        return MJ_ENOENT;
    mj_buf_printf(&path, "%s/%s", dir, name);
    int fd = open(mj_buf_cstr(&path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return MJ_ENOENT;
    ssize_t n = -1;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        mj_buf_reserve(value, MJ_SECRET_MAX + 1);
        n = read(fd, value->ptr, MJ_SECRET_MAX + 1);
    } else if (fd >= 0) {
        errno = EINVAL;
    }
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0 || n > (ssize_t)MJ_SECRET_MAX) {
        mj_buf_printf(error, "%s: %s", mj_buf_cstr(&path),
                      n < 0 ? strerror(why) : "too long for a secret");
        return MJ_EIO;
    }
    value->len = (size_t)n;
    if (value->len && value->ptr[value->len - 1] == '\n')
        value->len--;
    if (value->len && value->ptr[value->len - 1] == '\r')
        value->len--;
    return 0;
}

int mj_secret_find(const struct mj_script_cfg *cfg, const char *name, struct mj_buf *value,
                   struct mj_buf *error)
{
    char variable[96];
    if (!name_valid(name)) {
        mj_buf_printf(error, "'%.64s' cannot name a secret: letters, digits and '_'", name);
        return MJ_EINVAL;
    }
    if (cfg->secrets && !holds(cfg->secrets, name)) {
        mj_buf_printf(error,
                      "secret '%s' is not granted to this script: add it to its secrets = { … } "
                      "in the configuration file",
                      name);
        return MJ_EAGAIN;
    }
    snprintf(variable, sizeof variable, "MOONJET_SECRET_%s", name);
    const char *env = getenv(variable);
    int err = 0;
    if (cfg->made_up_secrets) {
        mj_buf_puts(value, MJ_SECRET_MADE_UP);
    } else if (cfg->secret_values) {
        err = find_given(cfg->secret_values, name, value) ? 0 : MJ_ENOENT;
    } else if (env && strlen(env) <= MJ_SECRET_MAX) {
        mj_buf_puts(value, env);
    } else {
        err = read_file(cfg->secrets_dir, name, value, error);
        if (err == MJ_ENOENT)
            err = read_file(getenv("CREDENTIALS_DIRECTORY"), name, value, error);
    }
    if (err == MJ_ENOENT && cfg->secret_values)
        mj_buf_printf(error,
                      "secret '%s' is not to be had: a spec gives it, jet.test(…, { secrets = { "
                      "%s = \"…\" } })",
                      name, name);
    else if (err == MJ_ENOENT)
        mj_buf_printf(error,
                      "secret '%s' is not to be had: set %s, or put it into a file %s in "
                      "--secrets DIR",
                      name, variable, name);
    if (!err && !value->len) {
        mj_buf_printf(error, "secret '%s' is empty", name);
        err = MJ_ENOENT;
    }
    return err;
}

static void remember(struct mj_secret **list, struct mj_span value)
{
    for (const struct mj_secret *s = *list; s; s = s->next)
        if (mj_span_eq(mj_span(s->value, s->len), value))
            return;
    struct mj_secret *s = mj_alloc(sizeof *s + value.len);
    s->len = value.len;
    memcpy(s->value, value.ptr, value.len);
    /* The longest first, so that none is left half when another is a part of it. */
    while (*list && (*list)->len > s->len)
        list = &(*list)->next;
    s->next = *list;
    *list = s;
}

void mj_secret_remember(struct mj_secret **list, struct mj_span value)
{
    MJ_AUTO_BUF json = {0};
    if (value.len < MJ_SECRET_HIDDEN)
        return;
    remember(list, value);
    /* As it stands in JSON: keys of several lines look otherwise there. */
    mj_buf_put_json(&json, value);
    if (json.len > value.len + 2)
        remember(list, mj_span(json.ptr + 1, json.len - 2));
    explicit_bzero(json.ptr, json.len);
}

static void free_secret(struct mj_secret *s)
{
    explicit_bzero(s->value, s->len);
    free(s);
}

void mj_secret_forget(struct mj_secret **list, struct mj_span value)
{
    for (; *list; list = &(*list)->next) {
        struct mj_secret *s = *list;
        if (!mj_span_eq(mj_span(s->value, s->len), value))
            continue;
        *list = s->next;
        free_secret(s);
        return;
    }
}

void mj_secrets_free(struct mj_secret *list)
{
    while (list) {
        struct mj_secret *next = list->next;
        free_secret(list);
        list = next;
    }
}

static size_t secret_at(const struct mj_secret *list, struct mj_span text, size_t at)
{
    for (; list; list = list->next)
        if (text.len - at >= list->len && memcmp(text.ptr + at, list->value, list->len) == 0)
            return list->len;
    return 0;
}

struct mj_span mj_secrets_hide(const struct mj_secret *list, struct mj_span text,
                               struct mj_buf *out)
{
    size_t from = 0;
    out->len = 0;
    for (size_t i = 0; list && i < text.len;) {
        size_t len = secret_at(list, text, i);
        if (!len) {
            i++;
            continue;
        }
        mj_buf_put(out, text.ptr + from, i - from);
        mj_buf_puts(out, "***");
        from = i += len;
    }
    if (!from)
        return text;
    mj_buf_put(out, text.ptr + from, text.len - from);
    return mj_buf_span(out);
}
