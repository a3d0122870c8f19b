// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_demangle.c: C++ and Rust names, and names made to exhaust a demangler (demangle.c).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "collector/demangle.h"

static void expect(const char *name, const char *readable)
{
	char *got = demangle(name);

	assert_non_null(got);
	assert_string_equal(got, readable);
	free(got);
}

static void test_cplusplus(void **state)
{
	expect("_Z3addii", "add(int, int)");
	expect("_ZN3foo3Bar3bazEPKc", "foo::Bar::baz(char const*)");
	expect("_ZN12_GLOBAL__N_13runEv", "(anonymous namespace)::run()");
	expect("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)");
	expect("_ZZ4mainENKUlvE_clEv", "main::{lambda()#1}::operator()() const");
	expect("_ZN3FooC4Ev", "Foo::Foo()");
	expect("_ZL4workv.constprop.0", "work() [clone .constprop.0]");
	expect("_Z3maxIiET_S0_S0_", "int max<int>(int, int)");
}

static void test_rust(void **state)
{
	expect("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write");
	expect("_ZN43_$LT$char$u20$as$u20$core..fmt..Display$GT$3fmt17hb5c1e7d0a1b2c3d4E",
	       "<char as core::fmt::Display>::fmt");
	expect("_RNvCskwGfYPst2Cb_3foo16example_function", "foo::example_function");
	expect("_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar");
}

static void test_not_mangled(void **state)
{
	static const char *const names[] = {"",  "main",   "_start", "_Z",        "_R",      "_Zork",    "__Z3addii_",
					    "Z", "printf", "_",      "_ZN3fooE?", "_RNvfoo", "\xff\xfe", "_Z3ad"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_null(demangle(names[i]));
}

// Each may fail or be cut; what counts is that it ends soon, in bounded memory.
static void check_bounded(const char *name)
{
	struct timespec start, end;
	char *got;

	clock_gettime(CLOCK_MONOTONIC, &start);
	got = demangle(name);
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_true(end.tv_sec - start.tv_sec < 3);
	if (got)
		assert_true(strlen(got) <= 64u << 10);
	free(got);
}

static void repeat(char *out, size_t size, const char *head, const char *piece, size_t times, const char *tail)
{
	size_t used = (size_t)snprintf(out, size, "%s", head);

	for (size_t i = 0; i < times && used + strlen(piece) + strlen(tail) < size; i++) {
		for (const char *c = piece; *c; c++)
			out[used++] = *c;
	}
	snprintf(out + used, size - used, "%s", tail);
}

static void test_deep(void **state)
{
	static const char *const pieces[] = {"P", "N", "F", "I1aI", "X", "M1a", "A1_", "DpT_", "Z", "cv", "Dn", "L_Z"};
	size_t size = 1u << 20;
	char *name = malloc(size);

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
		for (size_t times = 100; times <= 100000; times *= 10) {
			repeat(name, size, "_Z1f", pieces[i], times, "i");
			check_bounded(name);
			repeat(name, size, "_ZN1f", pieces[i], times, "Ev");
			check_bounded(name);
			repeat(name, size, "_RIC0", pieces[i], times, "E");
			check_bounded(name);
		}
	free(name);
}

static size_t base(char *out, uint32_t value, uint32_t radix)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char reversed[16];
	size_t n = 0;

	do
		reversed[n++] = digits[value % radix];
	while (value /= radix);
	for (size_t i = 0; i < n; i++) {
		char digit = reversed[n - 1 - i];

		out[i] = (char)(radix == 36 && digit >= 'a' ? digit - 'a' + 'A' : digit);
	}
	return n;
}

// Each parameter is a pair of two of the one before: 2^80 characters, were they all written.
static void test_explosion_cplusplus(void **state)
{
	char name[4096] = "_Z1fSt4pairI1A1AE";
	size_t used = strlen(name);
	char *got;

	for (uint32_t i = 1; i < 80; i++) {
		used += (size_t)snprintf(name + used, sizeof(name) - used, "S_I");
		for (int twice = 0; twice < 2; twice++) {
			name[used++] = 'S';
			used += base(name + used, i, 36);
			name[used++] = '_';
		}
		name[used++] = 'E';
	}
	name[used] = '\0';
	check_bounded(name);
	got = demangle(name);
	assert_non_null(got);
	assert_memory_equal(got, "f(std::pair<A, A>, std::pair<", 29);
	assert_string_equal(got + strlen(got) - 3, "...");
	free(got);
}

// The same in Rust's v0: tuples of references back to the tuple before.
static void test_explosion_rust(void **state)
{
	char name[4096] = "_RINvC1a1bTllE";
	size_t used = strlen(name), before = strlen("INvC1a1b");
	char *got;

	for (int i = 0; i < 100; i++) {
		size_t start = used - 2;

		name[used++] = 'T';
		for (int twice = 0; twice < 2; twice++) {
			name[used++] = 'B';
			used += base(name + used, (uint32_t)before - 1, 62);
			name[used++] = '_';
		}
		name[used++] = 'E';
		before = start;
	}
	name[used++] = 'E';
	name[used] = '\0';
	check_bounded(name);
	got = demangle(name);
	assert_non_null(got);
	assert_memory_equal(got, "a::b::<(i32, i32), ((i32, i32), (i32, i32))", 43);
	assert_string_equal(got + strlen(got) - 3, "...");
	free(got);
}

// Deterministic damage to good names.
static void test_damaged(void **state)
{
	static const char *const names[] = {
		"_ZNSt8_Rb_treeISsSt4pairIKSsiESt10_Select1stIS2_ESt4lessISsESaIS2_EE16_M_insert_unique_IS2_EESt17_Rb_"
		"tree_"
		"iteratorIS2_ESt23_Rb_tree_const_iteratorIS2_ERKT_",
		"_RINvNtC3std3mem8align_ofNtNtC3std3mem12DiscriminantE",
		"_ZN43_$LT$char$u20$as$u20$core..fmt..Display$GT$3fmt17hb5c1e7d0a1b2c3d4E",
	};
	uint32_t seed = 1;
	char name[512];

	for (int round = 0; round < 20000; round++) {
		const char *source = names[round % 3];
		size_t length = strlen(source);

		memcpy(name, source, length + 1);
		for (int i = 0; i <= round % 4; i++) {
			seed = seed * 1664525 + 1013904223;
			name[(seed >> 8) % length] = (char)(seed >> 24);
		}
		check_bounded(name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cplusplus),
		cmocka_unit_test(test_rust),
		cmocka_unit_test(test_not_mangled),
		cmocka_unit_test(test_deep),
		cmocka_unit_test(test_explosion_cplusplus),
		cmocka_unit_test(test_explosion_rust),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
