/* A scripted peer: a child process that plays QEMU's monitor or a guest agent, well or badly. */
#ifndef HARNESS_PEER_H
#define HARNESS_PEER_H

#include <stdint.h>
#include <sys/types.h>

enum peer_op {
	PEER_END,
	PEER_EXPECT,	/* read one line, which must contain the text; remembers its last "id" */
	PEER_EXPECT_FD, /* the same, and it must carry a descriptor, into which one 'x' is written */
	PEER_EXPECT_FF, /* the same, and it must begin with the byte 0xff */
	PEER_SEND,	/* send the text and CR LF; $ID in it becomes the remembered id, $OLD the one before */
	PEER_RAW,	/* the same without the CR LF */
	PEER_BYTES,	/* as SEND, in a write for each byte */
	PEER_SPLIT,	/* as SEND, in pieces of n bytes with a millisecond between */
	PEER_FLOOD,	/* SEND it n times, or until the other side closes; PEER_ENDLESS */
	PEER_DRIP,	/* the text, then a byte each millisecond until the other side closes */
	PEER_BIG,	/* answer with a string of n bytes */
	PEER_SLEEP,	/* n milliseconds */
	PEER_HANG,	/* do nothing until the other side closes */
	PEER_CLOSE,	/* close the connection */
	PEER_ACCEPT,	/* on the path given to peer_listen(): wait for the next client */
};

#define PEER_ENDLESS 4000000000u

struct peer_step {
	enum peer_op op;
	const char *text;
	unsigned n;
};

#define PEER_GREETING                                                                              \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"Debian 1:7.2\"}, " \
	"\"capabilities\": [\"oob\"]}}"
#define PEER_GREETS                                                                                \
	{ PEER_SEND, PEER_GREETING, 0 }, { PEER_EXPECT, "\"qmp_capabilities\"", 0 },               \
	{ PEER_SEND, "{\"return\": {}, \"id\": $ID}", 0 }
#define PEER_SYNCS { PEER_EXPECT_FF, "guest-sync-delimited", 0 }, { PEER_SEND, "\xff{\"return\": $ID}", 0 }
#define PEER_ASKED(command, answer) { PEER_EXPECT, "\"" command "\"", 0 }, { PEER_SEND, answer, 0 }

struct peer {
	pid_t pid;
	int fd;	 /* the tested side's end; it is the tested side's to close, after peer_listen() -1 */
	int log; /* what went wrong in the child */
};

/* Make a folder of its own, in FERMATA_TEST_TMP or /tmp. @out: 128 bytes. */
#define PEER_DIR_MAX 128
void peer_mkdir(char out[PEER_DIR_MAX]);

/* Start a child that follows @steps, up to PEER_END, on the other end of p->fd. */
void peer_start(struct peer *p, const struct peer_step *steps);

/* The same on a unix socket at @path, which exists when this returns. The steps begin with PEER_ACCEPT. */
void peer_listen(struct peer *p, const char *path, const struct peer_step *steps);

/*
 * Wait for the child; the test fails if it could not follow its script. Behind the last step it waits until the
 * other side closes, so close first. Nothing runs for more than two minutes.
 */
void peer_end(struct peer *p);

/* The same, but the script need not have been followed: for a tested side that gives up at any point. */
void peer_stop(struct peer *p);

#endif
