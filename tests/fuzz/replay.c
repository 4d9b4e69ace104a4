/*
 * A fuzzer's inputs once more, without the fuzzer: every file given, every file in a folder given; without
 * arguments those of tests/fuzz/corpus/NAME, for a program called fuzz_NAME (or, for a corpus that several share,
 * NAME without its last "_" and what follows). Prints TAP, one line for each folder or file given. An input that
 * does harm ends the program by its sanitizer, which is a failure to whoever runs it.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	uint8_t *data;

	if (!f || fstat(fileno(f), &st) < 0 || !(data = malloc((size_t)st.st_size + 1)) ||
	    fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		perror(path);
		exit(2);
	}
	fclose(f);
	/* Exactly its size, so that a read past the end is seen. */
	data = realloc(data, st.st_size ? (size_t)st.st_size : 1);
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	free(data);
	return 1;
}

static unsigned replay(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	if (!d)
		return replay_file(path);
	for (struct dirent *de; (de = readdir(d));) {
		char name[4096];

		if (de->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "%s/%s", path, de->d_name);
		n += replay(name);
	}
	closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	char corpus[256], *own[] = { argv[0], corpus, NULL };
	const char *base = strrchr(argv[0], '/');
	struct stat st;

	base = base ? base + 1 : argv[0];
	if (argc < 2) {
		snprintf(corpus, sizeof corpus, "tests/fuzz/corpus/%s", strncmp(base, "fuzz_", 5) ? base : base + 5);
		if (stat(corpus, &st) < 0 && strrchr(corpus, '_') > strrchr(corpus, '/'))
			*strrchr(corpus, '_') = '\0';
		if (stat(corpus, &st) < 0) {
			printf("1..0 # SKIP no %s\n", corpus);
			return 0;
		}
		argv = own;
		argc = 2;
	}
	printf("1..%d\n", argc - 1);
	for (int i = 1; i < argc; i++) {
		unsigned n = replay(argv[i]);

		printf("%s %d - %s: %u inputs of %s\n", n ? "ok" : "not ok", i, base, n, argv[i]);
		fflush(stdout);
	}
	return 0;
}
