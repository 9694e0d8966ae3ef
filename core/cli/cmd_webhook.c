/* moonjet webhook: a receiver to look at deliveries with, a made-up delivery to try a receiver
 * with, and secrets. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/commands.h"
#include "cli/webhook.h"

#define FILE_MAX 4096 /* bytes of a secret's file */

/* ---- secrets that are given ---- */

static bool is_blank(uint8_t c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static struct mj_span trim(struct mj_span s)
{
    while (s.len && is_blank(s.ptr[0]))
        s = mj_span(s.ptr + 1, s.len - 1);
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static int add(const char *who, const char *from, struct mj_span text, bool any,
               struct mj__webhook_secrets *out)
{
    MJ_AUTO_BUF error = {0};
    text = trim(text);
    if (out->texts_n == MJ__WEBHOOK_KEYS) {
        fprintf(stderr, "moonjet %s: more than %d secrets\n", who, MJ__WEBHOOK_KEYS);
        return MJ_EXIT_USAGE;
    }
    int err = mj_sign_key_parse(text, &out->keys[out->keys_n], &error);
    if (err && (!any || !text.len || mj_span_starts(text, MJ_SPAN("wh")))) {
        fprintf(stderr, "moonjet %s: %s: %s\n", who, from, mj_buf_cstr(&error));
        return MJ_EXIT_USAGE;
    }
    out->keys_n += !err;
    /* Of the right size at once: growing would leave copies behind. */
    struct mj_buf *copy = &out->texts[out->texts_n++];
    mj_buf_reserve(copy, text.len + 1);
    mj_buf_put(copy, text.ptr, text.len);
    return 0;
}

static int add_file(const char *who, const char *path, bool any, struct mj__webhook_secrets *out)
{
    char text[FILE_MAX];
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    if (!f) {
        fprintf(stderr, "moonjet %s: %s: %s\n", who, path, strerror(errno));
        return MJ_EXIT_FAILED;
    }
    setvbuf(f, NULL, _IONBF, 0); /* no copy that nobody wipes */
    size_t n = fread(text, 1, sizeof text, f);
    bool bad = ferror(f) || n == sizeof text;
    if (f != stdin)
        fclose(f);
    int r = MJ_EXIT_FAILED;
    if (bad)
        fprintf(stderr, "moonjet %s: %s: no file with a secret\n", who, path);
    else
        r = add(who, path, mj_span(text, n), any, out);
    OPENSSL_cleanse(text, sizeof text);
    return r;
}

int mj__webhook_secrets_read(const char *who, const struct mj_strings *texts,
                             const struct mj_strings *files, bool any,
                             struct mj__webhook_secrets *out)
{
    int r = 0;
    *out = (struct mj__webhook_secrets){0};
    for (size_t i = 0; !r && i < texts->n; i++)
        r = add(who, "--secret", mj_str(texts->v[i]), any, out);
    for (size_t i = 0; !r && i < files->n; i++)
        r = add_file(who, files->v[i], any, out);
    if (r)
        mj__webhook_secrets_deinit(out);
    return r;
}

void mj__webhook_secrets_deinit(struct mj__webhook_secrets *s)
{
    for (size_t i = 0; i < s->keys_n; i++)
        mj_sign_key_free(s->keys[i]);
    for (size_t i = 0; i < s->texts_n; i++) {
        OPENSSL_cleanse(s->texts[i].ptr, s->texts[i].cap);
        mj_buf_deinit(&s->texts[i]);
    }
    *s = (struct mj__webhook_secrets){0};
}

/* ---- webhook secret ---- */

struct cfg {
    const char *public_of;
    bool ed25519;
};

static int print_public(const char *path)
{
    struct mj__webhook_secrets s = {0};
    MJ_AUTO_BUF text = {0};
    int r = add_file("webhook secret", path, false, &s);
    if (!r && mj_sign_key_public(s.keys[0], &text)) {
        fprintf(stderr,
                "moonjet webhook secret: %s: a whsec_ secret has no public half; both ends "
                "have the same\n",
                path);
        r = MJ_EXIT_FAILED;
    } else if (!r) {
        printf("%s\n", mj_buf_cstr(&text));
    }
    mj__webhook_secrets_deinit(&s);
    return r;
}

static int secret_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    if (cfg.public_of)
        return print_public(cfg.public_of);
    MJ_AUTO_BUF secret = {0};
    MJ_AUTO_BUF public = {0};
    mj_buf_reserve(&secret, 128);
    if (cfg.ed25519 ? mj_sign_make_pair(&secret, &public) : mj_sign_make_secret(&secret)) {
        fprintf(stderr, "moonjet webhook secret: the system has no random numbers\n");
        return MJ_EXIT_FAILED;
    }
    printf("%s\n", mj_buf_cstr(&secret));
    OPENSSL_cleanse(secret.ptr, secret.cap);
    if (fflush(stdout))
        return MJ_EXIT_FAILED;
    if (cfg.ed25519)
        fprintf(stderr, "the receiver's public key: %s\n", mj_buf_cstr(&public));
    return MJ_EXIT_OK;
}

static const struct mj_option options[] = {
    {"ed25519", MJ_OPT_FLAG, offsetof(struct cfg, ed25519), NULL,
     "a pair: the private key on stdout, the receiver's public one on stderr"},
    {"public-of", MJ_OPT_STR, offsetof(struct cfg, public_of), "FILE",
     "print the public key to the private one in FILE (- for standard input)"},
    {0}};

static const struct mj_command secret = {
    .name = "webhook secret",
    .usage = "",
    .summary = "Make a secret for a webhook.",
    .details =
        "Where the receiver is somebody else's, --ed25519 is the better choice: who can check\n"
        "a signature then cannot make one.\n"
        "\n"
        "  (umask 077; moonjet webhook secret >/etc/moonjet/secrets/HOOK)",
    .options = options,
    .main = secret_main,
};

/* ---- webhook ---- */

static int webhook_main(const struct mj_command *cmd, int argc, char **argv)
{
    static const struct mj_command *const verbs[] = {&mj__webhook_listen, &mj__webhook_test,
                                                     &secret};
    const char *names[MJ_COUNT(verbs)];
    const char *verb = argc > 1 ? argv[1] : "";
    bool help = strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0;
    for (size_t i = 0; i < MJ_COUNT(verbs); i++) {
        names[i] = verbs[i]->name + strlen("webhook ");
        if (strcmp(names[i], verb) == 0)
            return verbs[i]->main(verbs[i], argc - 1, argv + 1);
    }
    FILE *to = help ? stdout : stderr;
    const char *near = help ? NULL : mj_closest(verb, names, MJ_COUNT(names));
    if (!help && *verb)
        fprintf(to, "moonjet webhook: unknown verb '%s'%s%s%s\n\n", verb,
                near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    fprintf(to, "Usage: moonjet webhook VERB [options] [arguments]\n\n%s\n\n", cmd->summary);
    for (size_t i = 0; i < MJ_COUNT(verbs); i++)
        fprintf(to, "  %-8s %s\n", names[i], verbs[i]->summary);
    fprintf(to, "\nmoonjet webhook VERB --help tells more.\n");
    return help ? MJ_EXIT_HELP : MJ_EXIT_USAGE;
}

const struct mj_command mj_cmd_webhook = {
    .name = "webhook",
    .usage = "VERB",
    .summary = "Webhooks: receive and look at them, try a receiver, make secrets.",
    .main = webhook_main,
};
