#include <stdio.h>

#include "cli/commands.h"

static int version_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, NULL, &pos);
    if (r)
        return r;
    printf("moonjet %s\n", MOONJET_VERSION);
    return MJ_EXIT_OK;
}

static const struct mj_option options[] = {{0}};

const struct mj_command mj_cmd_version = {
    .name = "version",
    .usage = "",
    .summary = "Versions of everything, and build switches.",
    .options = options,
    .main = version_main,
};
