/* The table of all commands. */
#include "init/cli/cmd.h"

#define C(var) extern const struct cmd var
C(cmd_list); C(cmd_start); C(cmd_shutdown); C(cmd_reboot); C(cmd_destroy); C(cmd_reset); C(cmd_suspend); C(cmd_resume);
C(cmd_domstate); C(cmd_dominfo); C(cmd_domblklist); C(cmd_domblkinfo); C(cmd_domdisplay_argv); C(cmd_console);
C(cmd_qemu_monitor_command); C(cmd_qemu_agent_command); C(cmd_domfsfreeze); C(cmd_domfsthaw);
C(cmd_snapshot_create_as); C(cmd_snapshot_list); C(cmd_snapshot_info); C(cmd_snapshot_dumpxml); C(cmd_snapshot_current);
C(cmd_snapshot_parent); C(cmd_snapshot_verify); C(cmd_snapshot_bake); C(cmd_snapshot_revert); C(cmd_snapshot_delete);
C(cmd_snapshot_export); C(cmd_snapshot_import);
C(cmd_blockpull); C(cmd_blockcommit); C(cmd_blockcopy); C(cmd_blockjob); C(cmd_domblkchain);
C(cmd_boot); C(cmd_boot_status); C(cmd_mark_good); C(cmd_guard); C(cmd_init);
C(cmd_save); C(cmd_restore); C(cmd_save_image_info); C(cmd_managedsave); C(cmd_managedsave_remove); C(cmd_managedsave_list); C(cmd_dump); C(cmd_standby);
C(cmd_define); C(cmd_undefine); C(cmd_host_check); C(cmd_recover); C(cmd_completion);

const struct cmd *const commands[] = {
	&cmd_list, &cmd_start, &cmd_shutdown, &cmd_reboot, &cmd_destroy, &cmd_reset, &cmd_suspend, &cmd_resume, &cmd_domstate,
#if CONFIG_INSPECT
	&cmd_dominfo, &cmd_domblklist, &cmd_domblkinfo, &cmd_domdisplay_argv,
#endif
#if CONFIG_DEFINE
	&cmd_define, &cmd_undefine,
#endif
#if CONFIG_CONSOLE
	&cmd_console,
#endif
#if CONFIG_PASSTHROUGH
	&cmd_qemu_monitor_command,
#if CONFIG_AGENT
	&cmd_qemu_agent_command,
#endif
#endif
#if CONFIG_AGENT
	&cmd_domfsfreeze, &cmd_domfsthaw,
#endif
#if CONFIG_MEMORY
	&cmd_save, &cmd_restore, &cmd_save_image_info, &cmd_managedsave, &cmd_managedsave_remove, &cmd_managedsave_list, &cmd_dump, &cmd_standby,
#endif
#if CONFIG_SNAPSHOT
	&cmd_snapshot_create_as, &cmd_snapshot_list, &cmd_snapshot_info,
#if CONFIG_XML
	&cmd_snapshot_dumpxml,
#endif
	&cmd_snapshot_current, &cmd_snapshot_parent, &cmd_snapshot_verify, &cmd_snapshot_delete,
#if CONFIG_MEMORY
	&cmd_snapshot_bake,
#endif
#endif
#if CONFIG_EXPORT
	&cmd_snapshot_export, &cmd_snapshot_import,
#endif
	&cmd_snapshot_revert,
#if CONFIG_BLOCKJOB
	&cmd_blockpull, &cmd_blockcommit, &cmd_blockcopy, &cmd_blockjob, &cmd_domblkchain,
#endif
#if CONFIG_BOOT
	&cmd_boot, &cmd_boot_status, &cmd_mark_good,
#if CONFIG_SNAPSHOT
	&cmd_guard,
#endif
#endif
#if CONFIG_INIT
	&cmd_init,
#endif
#if CONFIG_INSPECT
	&cmd_host_check,
#endif
	&cmd_recover,
#if CONFIG_COMPLETION
	&cmd_completion,
#endif
	NULL,
};
