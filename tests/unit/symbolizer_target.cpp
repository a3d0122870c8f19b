// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// symbolizer_target.cpp: what test_symbolizer.c compiles in many ways and asks about: inlining many levels deep, templates,
// lambdas, constructors, exceptions, namespaces, C functions, code in .text.unlikely. Never profiled; it need only run.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" __attribute__((noinline)) int plain_c_function(int value)
{
	return value * 7 + 3;
}

namespace shapes
{
struct Shape {
	virtual ~Shape() = default;
	virtual double area() const = 0;
};

class Square : public Shape
{
public:
	explicit Square(double side);
	double area() const override;
	Square operator+(const Square &other) const;

private:
	double side_;
	std::string label_;
};

__attribute__((noinline)) Square::Square(double side) : side_(side), label_("square of " + std::to_string(side)) {}

double Square::area() const
{
	return side_ * side_ + static_cast<double>(label_.size());
}

__attribute__((noinline)) Square Square::operator+(const Square &other) const
{
	return Square(side_ + other.side_);
}

namespace
{
template <typename T> inline T twice(T value)
{
	return value + value;
}

template <typename T, int Depth> struct Nest {
	static inline T descend(T value)
	{
		if (value % (Depth + 2) == 0)
			value += plain_c_function(static_cast<int>(value));
		return Nest<T, Depth - 1>::descend(twice(value));
	}
};

template <typename T> struct Nest<T, 0> {
	static inline T descend(T value)
	{
		return value ^ 0x55;
	}
};
} // namespace

__attribute__((noinline)) long nested(long value)
{
	return Nest<long, 12>::descend(value);
}

__attribute__((noinline)) unsigned nested(unsigned value)
{
	return Nest<unsigned, 8>::descend(value);
}
} // namespace shapes

static __attribute__((noinline)) int throws_sometimes(int value)
{
	if (value % 3 == 0)
		throw std::runtime_error("a third of them: " + std::to_string(value));
	return value;
}

static __attribute__((noinline)) int catches(int value)
{
	try {
		return throws_sometimes(value);
	} catch (const std::runtime_error &error) {
		return static_cast<int>(error.what()[0]);
	}
}

template <typename Key> static __attribute__((noinline)) size_t count_words(const std::vector<Key> &keys)
{
	std::map<Key, size_t> counts;

	for (const Key &key : keys)
		counts[key]++;
	size_t most = 0;
	for (const auto &entry : counts)
		most = std::max(most, entry.second);
	return most;
}

static __attribute__((noinline)) long sorts(std::vector<int> values)
{
	auto by_remainder = [](int a, int b) { return a % 17 != b % 17 ? a % 17 < b % 17 : a < b; };

	std::sort(values.begin(), values.end(), by_remainder);
	std::stable_sort(values.begin(), values.end(), [](int a, int b) { return a / 5 < b / 5; });
	long sum = 0;
	for (size_t i = 0; i < values.size(); i++)
		sum += values[i] * static_cast<long>(i);
	return sum;
}

int main(int argc, char **)
{
	std::vector<int> values;
	std::vector<std::string> words;

	for (int i = 0; i < 100 * argc; i++) {
		values.push_back((i * 7919) % 101);
		words.push_back("word" + std::to_string(i % 13));
	}
	shapes::Square square = shapes::Square(argc) + shapes::Square(2);
	long sum = sorts(values) + shapes::nested(static_cast<long>(argc)) + shapes::nested(static_cast<unsigned>(argc));
	for (int value : values)
		sum += catches(value);
	sum += static_cast<long>(count_words(words) + count_words(values));
	std::printf("%ld %f\n", sum, square.area());
	return 0;
}
