/* moonjet dictionary: puts a zstd dictionary where the router looks for it, says which one that is,
 * and trains one (dictionary_train.c). */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/commands.h"
#include "cli/dictionary.h"

struct cfg {
    const char *data;
};

bool mj__dictionary_write(const char *path, struct mj_span bytes)
{
    /* Beside the file, so that the rename stays within one file system. */
    MJ_AUTO_BUF fresh = {0};
    mj_buf_printf(&fresh, "%s.XXXXXX", path);
    int fd = mkstemp((char *)mj_buf_cstr(&fresh));
    if (fd < 0)
        return false;
    bool ok = true;
    for (size_t at = 0; ok && at < bytes.len;) {
        ssize_t n = write(fd, bytes.ptr + at, bytes.len - at);
        ok = n >= 0 || errno == EINTR;
        at += n > 0 ? (size_t)n : 0;
    }
    ok = ok && fchmod(fd, 0644) == 0 && fsync(fd) == 0;
    int saved = errno;
    if (close(fd) && ok) {
        ok = false;
        saved = errno;
    }
    if (ok && rename((char *)fresh.ptr, path)) {
        ok = false;
        saved = errno;
    }
    if (!ok)
        unlink((char *)fresh.ptr);
    errno = saved;
    return ok;
}

void mj__dictionary_print(const char *path, struct mj_span bytes, uint32_t id)
{
    char hex[65];
    mj_sha256_hex(bytes, hex);
    bool same = strcmp(hex, MJ_DICTIONARY_JETSTREAM_SHA256) == 0;
    printf("file       %s\nid         %u\nsize       %zu bytes\nsha256     %s\n", path, id,
           bytes.len, hex);
    printf("jetstream  %s\n",
           same ? "yes: the one that Jetstream's clients carry"
           : id == MJ_DICTIONARY_JETSTREAM_ID
               ? "NO, although it has the id of theirs: Jetstream's clients cannot decode with it"
               : "no: only clients that were given this one can decode what it encodes");
}

/* Makes the last two directories of a path where they are missing, as an installation does. */
static bool make_place(const char *path, mode_t mode)
{
    char *p MJ_AUTO_FREE = mj_strdup(path);
    char *name = strrchr(p, '/');
    if (!name)
        return true;
    *name = '\0';
    char *last = strrchr(p, '/');
    if (last && last > p) {
        *last = '\0';
        if (mkdir(p, mode) && errno != EEXIST)
            return false;
        *last = '/';
    }
    return mkdir(p, mode) == 0 || errno == EEXIST;
}

static int install_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    struct mj_dictionary d;
    MJ_AUTO_BUF error = {0};
    if (mj_dictionary_load(pos.v[0], &d, &error)) {
        fprintf(stderr, "moonjet %s: %s\n", cmd->name, mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    char *places[MJ_DICTIONARY_PLACES];
    size_t n = mj_dictionary_places(cfg.data, places);
    int status = MJ_EXIT_OK;
    struct mj_span bytes = mj_buf_span(&d.bytes);
    bool own = cfg.data && *cfg.data; /* the router's directory is for its owner alone */
    if (!n) {
        fprintf(stderr, "moonjet %s: name a directory with --data DIR\n", cmd->name);
        status = MJ_EXIT_USAGE;
    } else if (!make_place(places[0], own ? 0700 : 0755) ||
               !mj__dictionary_write(places[0], bytes)) {
        fprintf(stderr, "moonjet %s: %s: %s%s\n", cmd->name, places[0], strerror(errno),
                own ? ""
                    : "; run this as who installed the program, or name the router's directory "
                      "with --data DIR");
        status = MJ_EXIT_FAILED;
    } else {
        mj__dictionary_print(places[0], bytes, d.id);
        fprintf(stderr, "A router that is running reads it when it starts again.\n");
    }
    for (size_t i = 0; i < n; i++)
        free(places[i]);
    mj_dictionary_deinit(&d);
    return status;
}

static int show_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    struct mj_dictionary d;
    MJ_AUTO_BUF error = {0};
    r = mj_dictionary_find(pos.n ? pos.v[0] : NULL, cfg.data, &d, &error);
    if (!r) {
        mj__dictionary_print(d.path, mj_buf_span(&d.bytes), d.id);
        mj_dictionary_deinit(&d);
        return MJ_EXIT_OK;
    }
    if (r != MJ_ENOENT) {
        fprintf(stderr, "moonjet %s: %s\n", cmd->name, mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    fprintf(stderr, "moonjet %s: there is none; looked for:\n", cmd->name);
    char *places[MJ_DICTIONARY_PLACES];
    size_t n = mj_dictionary_places(cfg.data, places);
    for (size_t i = 0; i < n; i++) {
        fprintf(stderr, "  %s\n", places[i]);
        free(places[i]);
    }
    fprintf(stderr, "`moonjet dictionary install FILE` puts one into the first of them.\n");
    return MJ_EXIT_FAILED;
}

static const struct mj_option options[] = {{"data", MJ_OPT_STR, offsetof(struct cfg, data), "DIR",
                                            "the data directory of `moonjet run`",
                                            .env = "JETSTREAM_DATA_DIR"},
                                           {0}};

static const struct mj_command install = {
    .name = "dictionary install",
    .usage = "FILE",
    .summary = "Check a zstd dictionary and put it where the router looks for it.",
    .details = "Into the data directory with --data, else beside the installed program\n"
               "(PREFIX/share/moonjet), for every router on this machine. The file is replaced as\n"
               "a whole.",
    .options = options,
    .positional_min = 1,
    .positional_max = 1,
    .main = install_main,
};

static const struct mj_command show = {
    .name = "dictionary show",
    .usage = "[FILE]",
    .summary = "Say which zstd dictionary would be used, or describe the one in FILE.",
    .details = "Exit status 1 when there is none, or it is no good.",
    .options = options,
    .positional_max = 1,
    .main = show_main,
};

static int dictionary_main(const struct mj_command *cmd, int argc, char **argv)
{
    static const struct mj_command *const verbs[] = {&install, &show, &mj__dictionary_train};
    const char *names[MJ_COUNT(verbs)];
    const char *verb = argc > 1 ? argv[1] : "";
    bool help = strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0;
    for (size_t i = 0; i < MJ_COUNT(verbs); i++) {
        names[i] = verbs[i]->name + strlen("dictionary ");
        if (strcmp(names[i], verb) == 0)
            return verbs[i]->main(verbs[i], argc - 1, argv + 1);
    }
    FILE *to = help ? stdout : stderr;
    const char *near = help ? NULL : mj_closest(verb, names, MJ_COUNT(names));
    if (!help && *verb)
        fprintf(to, "moonjet dictionary: unknown verb '%s'%s%s%s\n\n", verb,
                near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    fprintf(to, "Usage: moonjet dictionary VERB [options] [arguments]\n\n%s\n\n", cmd->summary);
    for (size_t i = 0; i < MJ_COUNT(verbs); i++)
        fprintf(to, "  %-8s %s\n", names[i], verbs[i]->summary);
    fprintf(to, "\nmoonjet dictionary VERB --help tells more.\n");
    return help ? MJ_EXIT_HELP : MJ_EXIT_USAGE;
}

const struct mj_command mj_cmd_dictionary = {
    .name = "dictionary",
    .usage = "VERB",
    .summary = "The zstd dictionary shared with clients: install, show, train.",
    .main = dictionary_main,
};
