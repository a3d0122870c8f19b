// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_cpp.cpp: a C++ program as they are: templates inlined into each other, exceptions thrown through several frames,
// destructors that work while they fly, virtual calls, threads, thread_local objects.
//
// usage: target_cpp MS

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace shop
{

struct order {
	std::string name;
	long price;
};

static double thread_cpu_ms()
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

template <typename Compare> struct sorter {
	Compare compare;

	void operator()(std::vector<order> &orders) const
	{
		std::sort(orders.begin(), orders.end(), compare);
	}
};

struct guard {
	long &sum;

	// Works while an exception is on its way.
	~guard()
	{
		for (int i = 0; i < 2000; i++)
			__asm__ volatile("" : "+r"(sum));
		sum++;
	}
};

class validator
{
      public:
	virtual ~validator() = default;
	virtual void check(const order &one, int depth, long &sum) const = 0;
};

class strict_validator : public validator
{
      public:
	__attribute__((noinline)) void check(const order &one, int depth, long &sum) const override
	{
		guard watch{sum};

		if (depth > 0) {
			check(one, depth - 1, sum);
			return;
		}
		if (one.price % 3 == 0)
			throw std::runtime_error("bad price of " + one.name);
	}
};

static inline long weigh(const std::map<std::string, long> &prices)
{
	return std::accumulate(prices.begin(), prices.end(), 0L,
			       [](long sum, const auto &entry) { return sum * 31 + entry.second; });
}

__attribute__((noinline)) static long handle(std::vector<order> orders, const validator &judge)
{
	std::map<std::string, long> prices;
	long caught = 0, sum = 0;

	sorter<bool (*)(const order &, const order &)>{[](const order &a, const order &b) { return a.name < b.name; }}(
		orders);
	for (const auto &one : orders) {
		try {
			judge.check(one, 5, sum);
			prices[one.name] += one.price;
		} catch (const std::runtime_error &error) {
			caught += error.what()[0] == 'b';
		}
	}
	return weigh(prices) ? caught : -1;
}

struct goodbye {
	bool used = false;

	~goodbye()
	{
		double end = thread_cpu_ms() + 30;

		while (used && thread_cpu_ms() < end)
			std::rand();
	}
};
static thread_local goodbye farewell;

__attribute__((noinline)) static void serve(double ms, long &ret_rounds)
{
	std::unique_ptr<validator> judge = std::make_unique<strict_validator>();
	std::vector<order> orders;
	double end = thread_cpu_ms() + ms;

	farewell.used = true;
	for (long i = 0; i < 300; i++)
		orders.push_back({"order " + std::to_string(i * 7919 % 300), i});
	for (ret_rounds = 0; thread_cpu_ms() < end; ret_rounds++)
		if (handle(orders, *judge) != 100)
			std::abort();
}

} // namespace shop

int main(int argc, char **argv)
{
	double ms = argc > 1 ? std::atof(argv[1]) : 500;
	long rounds[3];
	std::thread first(shop::serve, ms, std::ref(rounds[0])), second([&] { shop::serve(ms, rounds[1]); });

	shop::serve(ms, rounds[2]);
	first.join();
	second.join();
	std::puts(*std::min_element(rounds, rounds + 3) > 0 ? "served" : "idle");
	return 0;
}
