// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_demangle.c: any text as a symbol, and, as libiberty itself is not instrumented and so its grammar would not be found, names put
// together from pieces of both grammars: with a first byte of 0x80 and more each byte that follows is a piece. What a name reads as is
// bounded, and so is the time that it takes; made short, it stays within its buffer.

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "collector/demangle.h"
#include "formats/short_name.h"
#include "tests/fuzz/fuzz.h"

#define MAX_SHOWN (16384u + 3)
#define MAX_NAME 16384u
#define MAX_CPU_NS 2000000000LL // under sanitizers; some ms without

static const char *const pieces[] = {
	"_Z",
	"_R",
	"N",
	"E",
	"I",
	"J",
	"S_",
	"S0_",
	"S1_",
	"S2_",
	"SA_",
	"St",
	"Sa",
	"Ss",
	"T_",
	"T0_",
	"T1_",
	"1A",
	"2ab",
	"3std",
	"4pair",
	"K",
	"P",
	"R",
	"O",
	"F",
	"A3_",
	"M",
	"v",
	"i",
	"l",
	"c",
	"z",
	"Dp",
	"Dt",
	"DT",
	"Dv4_",
	"X",
	"L",
	"Lb1E",
	"Li3E",
	"LZ",
	"sr",
	"sZ",
	"sP",
	"sp",
	"fp_",
	"fL0p_",
	"fp0_",
	"cl",
	"cv",
	"pl",
	"mi",
	"gt",
	"lt",
	"ix",
	"pt",
	"nw",
	"st",
	"ad",
	"Z",
	"UlvE_",
	"UlT_E_",
	"Ut_",
	"C1",
	"D2",
	"TV",
	"TI",
	"Th16_",
	"Tv0_n24_",
	"GV",
	"GR",
	"B5cxx11",
	"nsE",
	"Nv",
	"Nt",
	"C1a",
	"INvC1a1b",
	"B_",
	"B0_",
	"B2_",
	"M",
	"Mr",
	"Y",
	"T",
	"s_",
	"D",
	"Kj1f_",
	"Kb0_",
	"Kc41_",
	"u",
	"h",
	"FG_",
	"L_",
	"f.isra.0",
	".cold",
	"17h0123456789abcdefE",
	"$LT$",
	"$u20$",
	"..",
	"1_",
	"12_GLOBAL__N_1",
	"_",
	"0",
	"9",
	"DnE",
	"Tn",
	"Tt",
	"Ty",
	"on",
	"gs",
	"di",
	"dx",
	"il",
	"tl",
	"fr",
	"fl",
};

uint64_t fuzz_got_through;

static int64_t cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static char *make_name(const uint8_t *data, size_t size)
{
	bool by_piece = size > 0 && data[0] >= 0x80;
	char *name = malloc(by_piece ? MAX_NAME : size + 1);
	size_t used = 0;

	FUZZ_CHECK(name);
	if (!by_piece) {
		memcpy(name, data, size);
		name[size] = '\0';
		return name;
	}
	used = (size_t)snprintf(name, MAX_NAME, "%s", data[0] & 1 ? "_R" : "_Z");
	for (size_t i = 1; i < size; i++) {
		const char *piece = pieces[data[i] % (sizeof(pieces) / sizeof(pieces[0]))];

		if (used + strlen(piece) >= MAX_NAME)
			break;
		used += (size_t)snprintf(name + used, MAX_NAME - used, "%s", piece);
	}
	return name;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *name = make_name(data, size), *text, *made;
	int64_t start = cpu_ns();

	text = demangle_function(name);
	if (text) {
		fuzz_got_through++;
		FUZZ_CHECK(strlen(text) <= MAX_SHOWN);
		made = malloc(3 * strlen(text) + 1);
		FUZZ_CHECK(made && strlen(short_name(text, made, 3 * strlen(text) + 1)) <= 3 * strlen(text));
		free(made);
	}
	FUZZ_CHECK(cpu_ns() - start < MAX_CPU_NS);
	free(text);
	free(name);
	return 0;
}
