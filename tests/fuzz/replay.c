// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// replay.c: main() for a fuzz target without libFuzzer: each file of the directories named, once as it is, and some hundred times
// with a few bytes changed, cut or doubled, always the same ones.
//
// usage: TARGET DIRECTORY…

#include <dirent.h>
#include <stdbool.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define ROUNDS 300
#define MAX_BYTES (1u << 20)

static uint64_t random_state = 0x66757a7aULL;

static uint64_t next_random(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dULL;
}

// In place; returns the new size, at most MAX_BYTES.
static size_t mutate(uint8_t *data, size_t size)
{
	static const uint8_t odd[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x0c, 0x0f};

	for (uint64_t changes = 1 + next_random() % 6; changes && size; changes--) {
		size_t at = next_random() % size;
		uint64_t kind = next_random() % 8;

		if (kind < 3)
			data[at] ^= (uint8_t)(1u << next_random() % 8);
		else if (kind < 6)
			data[at] = odd[next_random() % sizeof(odd)];
		else if (kind == 6)
			size = at ? at : size;
		else if (size + at < MAX_BYTES)
			memmove(data + at + at / 2, data + at, size - at), size += at / 2;
	}
	return size;
}

static bool replay(const char *path)
{
	static uint8_t original[MAX_BYTES], input[MAX_BYTES];
	FILE *file = fopen(path, "rbe");
	size_t size;

	if (!file)
		return false;
	size = fread(original, 1, sizeof(original), file);
	fclose(file);
	LLVMFuzzerTestOneInput(original, size);
	for (int round = 0; round < ROUNDS; round++) {
		size_t mutated;
		uint8_t *exact; // a block of its own size, so that a sanitizer sees what lies behind

		memcpy(input, original, size);
		mutated = mutate(input, size);
		exact = malloc(mutated ? mutated : 1);
		if (!exact)
			return false;
		memcpy(exact, input, mutated);
		LLVMFuzzerTestOneInput(exact, mutated);
		free(exact);
	}
	return true;
}

int main(int argc, char **argv)
{
	size_t files = 0;

	for (int i = 1; i < argc; i++) {
		DIR *directory = opendir(argv[i]);
		struct dirent *entry;

		if (!directory) {
			perror(argv[i]);
			return 1;
		}
		while ((entry = readdir(directory))) {
			char path[1024];

			snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			if (entry->d_name[0] != '.')
				files += replay(path);
		}
		closedir(directory);
	}
	printf("%zu files, %d mutations of each; %llu inputs got through\n", files, ROUNDS,
	       (unsigned long long)fuzz_got_through);
	return files && fuzz_got_through ? 0 : 1;
}
