/* How far long work is: shown with -p, and told once on stderr for each SIGUSR1, as qemu-img does. */
#include <signal.h>
#include <stdio.h>

#include "init/img/img.h"
#include "lib/text.h"
#include "lib/muldiv.h"

static bool shown;
static uint64_t last; /* percent * 100, + 1; 0: nothing was shown yet */
static volatile sig_atomic_t asked;

static void take_note(int sig)
{
	(void)sig;
	asked = 1;
}

void img_progress_begin(bool show)
{
	struct sigaction sa = { .sa_handler = take_note, .sa_flags = SA_RESTART };

	shown = show;
	last = 0;
	sigaction(SIGUSR1, &sa, NULL);
	if (show)
		img_progress(0, 1);
}

void img_progress(uint64_t done, uint64_t total)
{
	uint64_t at = total ? mul_div(done, 10000, total, NULL) : 10000;
	char percent[TEXT_SIZE_MAX];

	if (asked) {
		asked = 0;
		fprintf(stderr, "    (%s/100%%)\n", text_percent(done, total, percent));
	}
	/* A whole percent makes a difference. */
	if (!shown || (last && at < 10000 && at + 1 < last + 100))
		return;
	last = at + 1;
	printf("    (%s/100%%)\r", text_percent(done, total, percent));
	fflush(stdout);
}

void img_progress_end(void)
{
	if (shown)
		putchar('\n');
	shown = false;
}
