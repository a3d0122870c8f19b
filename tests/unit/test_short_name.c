// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_short_name.c: names made short (short_name.c): what people say for what libiberty says; hostile ones bounded.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/profile.h"
#include "formats/short_name.h"
#include "formats/utf8.h"

static void check(const char *name, const char *wanted)
{
	char buf[1024];

	assert_string_equal(short_name(name, buf, sizeof(buf)), wanted);
}

static void test_cplusplus(void **state)
{
	check("main", "main");
	check("f()", "f()");
	check("f(int)", "f(…)");
	check("std::vector<int, std::allocator<int> >::push_back(int const&)", "std::vector<…>::push_back(…)");
	check("void std::swap<int>(int&, int&)", "std::swap<…>(…)");
	check("unsigned long const& ns::f<std::pair<int, long> >(std::pair<int, long>) const", "ns::f<…>(…)");
	check("std::enable_if<((sizeof...(T))<(5)), int>::type g<1, 2>()", "g<…>()");
	check("std::enable_if<((1)>(0)), int>::type g<(bool)1>(int)", "g<…>(…)");
	check("A<B<C<int> > >::~A()", "A<…>::~A()");
	check("f<>()", "f<>()");
	check("f[abi:cxx11](int)", "f[abi:cxx11](…)");
	check("f(int) [clone .cold]", "f(…)");
	check("A::f(int) const &", "A::f(…)");
}

static void test_places(void **state)
{
	check("(anonymous namespace)::run(int)", "(anonymous namespace)::run(…)");
	check("void (anonymous namespace)::run<int>(int)", "(anonymous namespace)::run<…>(…)");
	check("A::f(int) const::{lambda(auto:1)#1}::operator()<int>(int) const",
	      "A::f(…)::{lambda(…)#1}::operator()<…>(…)");
	check("auto main::{lambda(auto:1)#1}::operator()<int>(int) const", "main::{lambda(…)#1}::operator()<…>(…)");
	check("f(int)::{unnamed type#1}::g()", "f(…)::{unnamed type#1}::g()");
	check("non-virtual thunk to A::f(int)", "non-virtual thunk to A::f(…)");
	check("guard variable for f(int)::x", "guard variable for f(…)::x");
	check("main::$_0::operator()(int) const", "main::$_0::operator()(…)");
}

static void test_operators(void **state)
{
	check("A::operator()(int) const", "A::operator()(…)");
	check("A::operator[](int)", "A::operator[](…)");
	check("A::operator<(A const&) const", "A::operator<(…)");
	check("bool operator< <int>(A<int>, A<int>)", "operator<<…>(…)");
	check("bool operator==<int>(A<int>, A<int>)", "operator==<…>(…)");
	check("std::ostream& operator<< <char>(std::ostream&, char)", "operator<<<…>(…)");
	check("A::operator->() const", "A::operator->()");
	check("A::operator-(int)", "A::operator-(…)");
	check("A::operator<=>(A)", "A::operator<=>(…)");
	check("A::operator unsigned int() const", "A::operator unsigned int()");
	check("A::operator std::vector<int> const&()", "A::operator std::vector<…> const&()");
	check("operator new[](unsigned long)", "operator new[](…)");
	check("my_operator(int)", "my_operator(…)");
	check("operators::f(int)", "operators::f(…)");
}

static void test_rust(void **state)
{
	check("<alloc::vec::Vec<T> as core::iter::Extend<T>>::extend::<I>",
	      "<alloc::vec::Vec<…> as core::iter::Extend<…>>::extend::<…>");
	check("core::fmt::num::imp::<impl core::fmt::Display for usize>::fmt",
	      "core::fmt::num::imp::<impl core::fmt::Display for usize>::fmt");
	check("core::ptr::drop_in_place<alloc::string::String>", "core::ptr::drop_in_place<…>");
	check("<fn(A) -> B as core::ops::FnOnce<(A,)>>::call_once", "<fn(…) -> B as core::ops::FnOnce<…>>::call_once");
	check("a::b::{closure#0}", "a::b::{closure#0}");
	check("a::b::{{closure}}", "a::b::{{closure}}");
	check("<[T]>::sort::<F>", "<[T]>::sort::<…>");
}

// What cannot be taken apart stays whole.
static void test_whole(void **state)
{
	static const char *const names[] = {"void (*f<int>(int))(float)",
					    "f<int",
					    "f(int",
					    "a>b",
					    "f)",
					    "decltype (x) f<int>(int)",
					    "",
					    " ",
					    "<",
					    "operator",
					    "f<(int>)"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		check(names[i], names[i]);
}

static void test_small_buffer(void **state)
{
	static const char name[] = "räume::f<int>(int)";
	char buf[64];

	for (size_t size = 1; size < sizeof(buf); size++) {
		memset(buf, 'x', sizeof(buf));
		short_name(name, buf, size);
		assert_true(strlen(buf) < size);
		assert_true(utf8_is_valid(buf));
	}
}

static void check_bounded(const char *name)
{
	size_t room = strlen(name) + 1;
	char *buf = malloc(3 * room);

	assert_non_null(buf);
	short_name(name, buf, 3 * room); // a sign folded is three bytes
	assert_true(strlen(buf) < 3 * room);
	free(buf);
}

// Any brackets, quickly and within the buffer.
static void test_hostile(void **state)
{
	static const char signs[] = "<>()[]{} :-a&operator";
	static const char *const repeated[] = {"<", "(",        "a<", "operator<", "{<",         "a<b(",
					       " ", "::<impl ", "->", "()",        "f() const::"};
	uint32_t seed = 1;
	char name[16384];

	for (size_t i = 0; i < sizeof(repeated) / sizeof(repeated[0]); i++) {
		size_t length = strlen(repeated[i]), used = 0;

		for (; used + length < sizeof(name); used += length)
			memcpy(name + used, repeated[i], length);
		name[used] = '\0';
		check_bounded(name);
	}
	for (int round = 0; round < 20000; round++) {
		size_t length = 1 + seed % 60;

		for (size_t i = 0; i < length; i++) {
			seed = seed * 1664525 + 1013904223;
			name[i] = signs[(seed >> 16) % (sizeof(signs) - 1)];
		}
		name[length] = '\0';
		check_bounded(name);
	}
}

// Only what was demangled is made short: other languages have brackets of their own.
static void test_profile(void **state)
{
	struct profile *profile = profile_create();
	const struct profile_function functions[] = {
		{.name = "void f<int>(int)", .system_name = "_Z1fIiEvT_", .file = "a.cpp"},
		{.name = "LazyCompile:~<anonymous> a.js:3",
		 .system_name = "LazyCompile:~<anonymous> a.js:3",
		 .file = ""},
		{.name = "main.(*T).Run", .system_name = "main.(*T).Run", .file = ""},
		{.name = "f<g()::<lambda(int)>, A<int> >", .system_name = "f<g()::<lambda(int)>, A<int> >", .file = ""},
		{.name = "py::<module>:/x.py", .system_name = "py::<module>:/x.py", .file = ""},
	};

	for (size_t i = 0; i < 5; i++)
		assert_int_equal(profile_add_function(profile, &functions[i]), i + 1);
	assert_int_equal(short_names_in(profile), 0);
	assert_string_equal(profile->functions[0].name, "f<…>(…)");
	assert_string_equal(profile->functions[0].system_name, "_Z1fIiEvT_");
	assert_string_equal(profile->functions[3].name, "f<…>");
	assert_string_equal(profile->functions[4].name, "py::<module>:/x.py");
	for (size_t i = 1; i < 3; i++)
		assert_string_equal(profile->functions[i].name, functions[i].name);
	profile_destroy(profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cplusplus), cmocka_unit_test(test_places),  cmocka_unit_test(test_operators),
		cmocka_unit_test(test_rust),      cmocka_unit_test(test_whole),   cmocka_unit_test(test_small_buffer),
		cmocka_unit_test(test_hostile),   cmocka_unit_test(test_profile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
