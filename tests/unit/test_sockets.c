/* kvm/sockets.c: which names in [qemu] args are of sockets that QEMU makes, and what a second QEMU gets. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm/sockets.h"
#include "lib/own.h"
#include "lib/text.h"

static void t_words(void **state)
{
	static const struct {
		const char *option, *word, *want; /* NULL: as it is */
	} t[] = {
		{ "-chardev", "socket,id=c,path=/r/s,server=on,wait=off", "socket,id=c,path=/r/s.next,server=on,wait=off" },
		{ "--chardev", "socket,server,path=/r/s", "socket,server,path=/r/s.next" },
		{ "-chardev", "socket,id=c,path=/r/a,,b,server=yes", "socket,id=c,path=/r/a,,b.next,server=yes" },
		{ "-chardev", "socket,id=c,server=on,path=/r/a,,", "socket,id=c,server=on,path=/r/a,,.next" },
		{ "-chardev", "socket,id=c,path=/r/s", NULL },
		{ "-chardev", "socket,id=c,path=/r/s,server=off", NULL },
		{ "-chardev", "socket,id=server,path=/r/s", NULL },
		{ "-chardev", "socket,id=c,path=s,server=on,abstract=on", NULL },
		{ "-chardev", "socket,id=qmp,fd=3,server=on,wait=off", NULL },
		{ "-chardev", "socket,id=c,host=localhost,port=1,server=on", NULL },
		{ "-chardev", "file,id=c,path=/r/s", NULL },
		{ "-chardev", "socket,path=,server=on", NULL },
		{ "-chardev", "socket,path,server=on", NULL },
		{ "-qmp", "unix:/r/s,server=on,wait=off", "unix:/r/s.next,server=on,wait=off" },
		{ "-monitor", "unix:/r/s,server,nowait", "unix:/r/s.next,server,nowait" },
		{ "-serial", "mon:unix:/r/s,server=on", "mon:unix:/r/s.next,server=on" },
		{ "-serial", "unix:/r/s", NULL },
		{ "-serial", "tcp::1234,server=on", NULL },
		{ "-append", "unix:/r/s,server=on", NULL },
		{ "", "unix:/r/s,server=on", NULL },
		{ "-vnc", "unix:/r/s", "unix:/r/s.next" },
		{ "-vnc", "unix:/r/s,password=on", "unix:/r/s.next,password=on" },
		{ "-vnc", ":1", NULL },
		{ "-display", "vnc=unix:/r/s", "vnc=unix:/r/s.next" },
		{ "-spice", "unix=on,addr=/r/s,disable-ticketing=on", "unix=on,addr=/r/s.next,disable-ticketing=on" },
		{ "-spice", "port=1,addr=127.0.0.1", NULL },
		{ "-netdev", "stream,id=n,server=on,addr.type=unix,addr.path=/r/s", "stream,id=n,server=on,addr.type=unix,addr.path=/r/s.next" },
		{ "-netdev", "stream,id=n,addr.type=unix,addr.path=/r/s", NULL },
	};
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		auto_free char *got = NULL;

		assert_int_equal(sockets_word(t[i].option, t[i].word, ".next", &got, &e), 0);
		assert_string_equal(got, t[i].want ? t[i].want : t[i].word);
	}
}

static void t_refused(void **state)
{
	auto_free char *got = NULL;
	char word[140] = "unix:/", dir[] = "/tmp/test_sockets.XXXXXX";
	auto_free char *there = NULL, *file = NULL;
	struct err e = { 0 };
	int fd;

	(void)state;
	/* 107 bytes and the NUL are an address */
	memset(word + 6, 'a', 101);
	strcpy(word + 6 + 101, ",server=on");
	assert_int_equal(sockets_word("-qmp", word, ".next", &got, &e), 0);
	free(take_ptr(&got));
	strcpy(word + 6 + 102, ",server=on");
	word[6 + 101] = 'a';
	assert_int_equal(sockets_word("-qmp", word, ".next", &got, &e), -ENAMETOOLONG);
	assert_non_null(mkdtemp(dir));
	there = str_fmt("unix:%s/s,server=on", dir);
	file = str_fmt("%s/s.next", dir);
	assert_int_equal(sockets_word("-qmp", there, ".next", &got, &e), 0);
	fd = open(file, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	close(fd);
	free(take_ptr(&got));
	assert_int_equal(sockets_word("-qmp", there, ".next", &got, &e), -EEXIST);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_words),
		cmocka_unit_test(t_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
