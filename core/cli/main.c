/* moonjet: finds the subcommand and runs it. `moonjet` alone, or with options or scripts first,
 * is `moonjet run`. */
#include <signal.h>
#include <stdio.h>

#include "cli/commands.h"

static const struct mj_command *const commands[] = {
    &mj_cmd_run,      &mj_cmd_tail,   &mj_cmd_check,      &mj_cmd_test,     &mj_cmd_repl,
    &mj_cmd_backtest, &mj_cmd_ctl,    &mj_cmd_deliveries, &mj_cmd_webhook,  &mj_cmd_journal,
    &mj_cmd_why,      &mj_cmd_load,   &mj_cmd_dictionary, &mj_cmd_simulate, &mj_cmd_record,
    &mj_cmd_replay,   &mj_cmd_decode, &mj_cmd_bench,      &mj_cmd_version,
};

static void print_commands(FILE *to)
{
    fprintf(to, "Usage: moonjet COMMAND [options] [arguments]\n\n");
    for (size_t i = 0; i < MJ_COUNT(commands); i++)
        fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "\nmoonjet COMMAND --help tells more.\n");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    const char *name = argc > 1 ? argv[1] : "run";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_commands(stdout);
        return MJ_EXIT_OK;
    }
    if (strcmp(name, "--version") == 0)
        name = "version";
    bool is_run = argc < 2 || (name[0] == '-' && strcmp(argv[1], "--version")) ||
                  strchr(name, '.') || strchr(name, '/');
    if (is_run)
        name = "run";
    const char *names[MJ_COUNT(commands)];
    for (size_t i = 0; i < MJ_COUNT(commands); i++) {
        names[i] = commands[i]->name;
        if (strcmp(commands[i]->name, name))
            continue;
        int skip = is_run ? 0 : 1;
        int r = commands[i]->main(commands[i], argc - skip, argv + skip);
        return r == MJ_EXIT_HELP ? MJ_EXIT_OK : r;
    }
    const char *near = mj_closest(name, names, MJ_COUNT(names));
    fprintf(stderr, "moonjet: unknown command '%s'%s%s%s\n", name, near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "");
    print_commands(stderr);
    return MJ_EXIT_USAGE;
}
