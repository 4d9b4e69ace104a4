/* The table of `fermata img`: qemu-img's commands. */
#include "init/cli/cmd.h"

extern const struct cmd cmd_img_amend, cmd_img_bitmap, cmd_img_check, cmd_img_commit, cmd_img_compare, cmd_img_convert, cmd_img_create, cmd_img_dd, cmd_img_info,
	cmd_img_map, cmd_img_measure, cmd_img_rebase, cmd_img_resize, cmd_img_snapshot;

const struct cmd *const img_commands[] = {
	&cmd_img_amend, &cmd_img_bitmap, &cmd_img_check, &cmd_img_commit, &cmd_img_compare, &cmd_img_convert, &cmd_img_create, &cmd_img_dd, &cmd_img_info,
	&cmd_img_map, &cmd_img_measure, &cmd_img_rebase, &cmd_img_resize, &cmd_img_snapshot, NULL,
};
