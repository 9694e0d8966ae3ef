/* A plug-in for tests that takes what it is in the mood for: three events at a time at most, one
 * whose text is "again" not before the third time it is asked, one whose text is "never" not at
 * all. What it takes it writes to a file, a text a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moonjet.h"

struct cfg {
    const char *path;
};

static const struct mj_plugin_option options[] = {
    {"path", MJ_PLUGIN_TEXT, offsetof(struct cfg, path), NULL, "the file to append to"}, {0}};

struct moody {
    FILE *file;
    int asked;
};

static int on_init(const struct mj_plugin_host *host, const void *cfg, void **state)
{
    (void)host;
    struct moody *m = calloc(1, sizeof *m);
    m->file = fopen(((const struct cfg *)cfg)->path, "a");
    *state = m;
    return m->file ? 0 : -1;
}

static void read_text(const struct mj_plugin_event *ev, char text[32])
{
    static const char key[] = "\"text\":\"";
    const char *at = memmem(ev->json, ev->len, key, sizeof key - 1);
    text[0] = 0;
    for (size_t i = 0; at && i < 31 && at[sizeof key - 1 + i] != '"'; i++) {
        text[i] = at[sizeof key - 1 + i];
        text[i + 1] = 0;
    }
}

static int on_deliver(void *state, const struct mj_plugin_event *events, size_t n)
{
    struct moody *m = state;
    size_t took = 0;
    for (char text[32]; took < n && took < 3; took++) {
        read_text(&events[took], text);
        if (strcmp(text, "never") == 0)
            break;
        if (strcmp(text, "again") == 0 && took)
            break;
        if (strcmp(text, "again") == 0 && ++m->asked < 3)
            return MJ_PLUGIN_AGAIN;
        fprintf(m->file, "%s\n", text);
    }
    fflush(m->file);
    return took ? (int)took : MJ_PLUGIN_FAILED;
}

static void on_deinit(void *state)
{
    struct moody *m = state;
    fclose(m->file);
    free(m);
}

__attribute__((visibility("default")))
const struct mj_plugin moonjet_plugin = {MJ_PLUGIN_HEAD,
                                         .name = "moody",
                                         .help = "For tests.",
                                         .options = options,
                                         .cfg_size = sizeof(struct cfg),
                                         .init = on_init,
                                         .deliver = on_deliver,
                                         .deinit = on_deinit};
