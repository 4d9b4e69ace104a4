/* Whether this host's KVM can be used. */
#include <fcntl.h>
#include <sys/ioctl.h>
/* Linux has no KVM for 32-bit Arm since 5.7, nor its header. */
#if __has_include(<asm/kvm.h>)
#include <linux/kvm.h>
#else
#define KVM_GET_API_VERSION 0xae00
#define KVM_API_VERSION 12
#endif

#include "kvm/host.h"
#include "lib/own.h"

int kvm_open_device(int *fd, struct err *e)
{
	auto_fd int dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version;

	if (dev < 0) {
		err_sys(e, errno, "cannot use KVM: /dev/kvm");
		if (e->code == -EACCES || e->code == -EPERM)
			return err_hint(e, "run as root, or put the user into the group that owns /dev/kvm");
		return err_hint(e, "enable virtualization in the firmware and load kvm_intel or kvm_amd, or say 'accel = tcg'");
	}
	version = ioctl(dev, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		return err_set(e, -EOPNOTSUPP, "cannot use KVM: /dev/kvm speaks version %d, not %d", version, KVM_API_VERSION);
	*fd = take_fd(&dev);
	return 0;
}

int kvm_usable(struct err *e)
{
	auto_fd int fd = -1;

	return kvm_open_device(&fd, e);
}
