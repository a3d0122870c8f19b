// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_pool.cpp: a pool whose tasks carry why they run, and a label of the request they belong to:
//
//   profd run --causal -o cpu.html -- build/examples/example_thread_pool
//   profd run --group route -o cpu.folded -- build/examples/example_thread_pool

#include <chrono>
#include <condition_variable>
#include <ctime>
#include <functional>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

#include "include/profd.h"

class pool
{
      public:
	explicit pool(unsigned threads)
	{
		for (unsigned i = 0; i < threads; i++)
			threads_.emplace_back([this] { run(); });
	}

	~pool()
	{
		{
			std::lock_guard<std::mutex> lock(mutex_);
			ending_ = true;
		}
		changed_.notify_all();
		for (auto &thread : threads_)
			thread.join();
	}

	void submit(std::function<void()> function)
	{
		std::lock_guard<std::mutex> lock(mutex_);
		tasks_.push({std::move(function), profd_capture()});
		changed_.notify_one();
	}

      private:
	struct task {
		std::function<void()> function;
		profd_link link;
	};

	void run()
	{
		std::unique_lock<std::mutex> lock(mutex_);
		for (;;) {
			changed_.wait(lock, [this] { return ending_ || !tasks_.empty(); });
			if (tasks_.empty())
				return;
			task next = std::move(tasks_.front());
			tasks_.pop();
			lock.unlock();
			{
				profd::scope scope(next.link);
				next.function();
			}
			lock.lock();
		}
	}

	std::mutex mutex_;
	std::condition_variable changed_;
	std::queue<task> tasks_;
	std::vector<std::thread> threads_;
	bool ending_ = false;
};

// ---- The program ---------------------------------------------------------------------------------------------------

[[gnu::noinline]] static void render(int quarters)
{
	const std::clock_t end = std::clock() + CLOCKS_PER_SEC / 4 * quarters;

	while (std::clock() < end)
		;
}

[[gnu::noinline]] static void handle_checkout(pool &workers)
{
	profd::label route("route", "/checkout");
	workers.submit([] { render(2); });
}

[[gnu::noinline]] static void handle_search(pool &workers)
{
	profd::label route("route", "/search");
	workers.submit([] { render(1); });
}

int main()
{
	pool workers(2);

	handle_checkout(workers);
	handle_search(workers);
	return 0;
}
