/* The subcommands: one file cmd_NAME.c and one descriptor each. */
#pragma once

#include "base/options.h"

extern const struct mj_command mj_cmd_simulate;
extern const struct mj_command mj_cmd_check;
extern const struct mj_command mj_cmd_backtest;
extern const struct mj_command mj_cmd_ctl;
extern const struct mj_command mj_cmd_decode;
extern const struct mj_command mj_cmd_record;
extern const struct mj_command mj_cmd_replay;
extern const struct mj_command mj_cmd_tail;
extern const struct mj_command mj_cmd_version;
extern const struct mj_command mj_cmd_run;
extern const struct mj_command mj_cmd_bench;
extern const struct mj_command mj_cmd_journal;
extern const struct mj_command mj_cmd_dictionary;
extern const struct mj_command mj_cmd_load;
extern const struct mj_command mj_cmd_test;
extern const struct mj_command mj_cmd_repl;
extern const struct mj_command mj_cmd_why;
extern const struct mj_command mj_cmd_webhook;
extern const struct mj_command mj_cmd_deliveries;
