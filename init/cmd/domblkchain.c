/* domblkchain */
#include <stdio.h>
#include <string.h>

#include "init/cli/cmd.h"
#include "init/cli/vm.h"
#include "kvm/kvm.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/text.h"

static const char *output;
static const struct opt opts[] = { OPT_OUTPUT(output), { 0 } };

static void print_image(const struct fermata_image *m, bool active)
{
	char capacity[TEXT_SIZE_MAX], allocation[TEXT_SIZE_MAX];

	text_fmt_size(m->capacity, capacity);
	text_fmt_size(m->allocation, allocation);
	printf("%s (%s", cmd_shown(m->file), m->raw ? "raw" : "qcow2");
	if (m->missing)
		printf(", MISSING");
	else
		printf(", %s, %s on disk", capacity, allocation);
	if (m->frozen)
		printf(", frozen by %s", cmd_shown(m->frozen->name));
	puts(active ? ", active)" : ")");
}

/* The overlays of image @on (@n: images without a backing file), each with its own. */
static void print_tree(const struct fermata_image *m, size_t n, size_t on, unsigned depth)
{
	for (size_t i = 0; i < n; i++) {
		if (m[i].backing != on)
			continue;
		printf(" %*s", (int)depth * 3, depth ? "+- " : "");
		print_image(&m[i], i == 0);
		print_tree(m, n, i, depth + 1);
	}
}

static void put_images(struct json_out *w, const struct fermata_image *m, size_t n)
{
	json_arr(w, "images");
	for (size_t i = 0; i < n; i++) {
		json_obj(w, NULL);
		json_put_str(w, "file", m[i].file);
		json_put_str(w, "format", m[i].raw ? "raw" : "qcow2");
		json_put_bool(w, "in-use", m[i].in_use);
		json_put_bool(w, "missing", m[i].missing);
		json_put_uint(w, "virtual-size", m[i].capacity);
		json_put_uint(w, "actual-size", m[i].allocation);
		json_put_str(w, "backing", m[i].backing < n ? m[m[i].backing].file : NULL);
		json_put_str(w, "frozen-by", m[i].frozen ? m[i].frozen->name : NULL);
		json_obj_end(w);
	}
	json_arr_end(w);
}

static int run(int argc, char **argv, struct err *e)
{
	auto_vm struct fermata_vm *vm = NULL;
	auto_buf struct buf b = { 0 };
	const struct def *def;
	struct json_out w;
	bool json, found = false;

	(void)argc;
	if (cmd_output_json(output, &json, e) < 0 || vm_get(argv[0], FERMATA_READ, "domblkchain", &vm, e) < 0)
		return e->code;
	def = fermata_vm_def(vm);
	json_out_init(&w, &b, true);
	json_arr(&w, NULL);
	for (size_t i = 0; i < def->n_disks; i++) {
		struct fermata_image *m;
		size_t n;

		if (argv[1] && strcmp(argv[1], def->disks[i].name) && strcmp(argv[1], fermata_vm_disk_file(vm, i)))
			continue;
		found = true;
		if (fermata_images(vm, i, &m, &n, e) < 0)
			return e->code;
		json_obj(&w, NULL);
		json_put_str(&w, "target", def->disks[i].name);
		put_images(&w, m, n);
		json_obj_end(&w);
		if (!json) {
			puts(def->disks[i].name);
			print_tree(m, n, n, 0);
		}
		fermata_images_free(m, n);
	}
	json_arr_end(&w);
	if (argv[1] && !found)
		return err_set(e, -ENOENT, "%s: there is no disk '%s'", argv[0], argv[1]);
	return json ? cmd_put_json(&b, e) : 0;
}

const struct cmd cmd_domblkchain = { "domblkchain", "VM [DISK]", "domain device", "the images behind every disk, and who froze them",
	"The lowest image first; its overlays are indented. Branches that snapshots keep are shown too.\n", opts, 1, 2, run };
