// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_rust.rs: a Rust program as they are: iterators inlined, hash maps, strings, closures in threads, panics caught.
//
// usage: target_rust MS      of CPU time, each of three threads

use std::collections::HashMap;
use std::panic;
use std::thread;

#[repr(C)]
#[derive(Default)]
struct Timespec {
    seconds: i64,
    ns: i64,
}

extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

fn thread_cpu_ms() -> f64 {
    let mut now = Timespec::default();
    unsafe { clock_gettime(3, &mut now) }; // CLOCK_THREAD_CPUTIME_ID
    now.seconds as f64 * 1e3 + now.ns as f64 / 1e6
}

mod words {
    use super::*;

    pub fn text(seed: u64) -> String {
        (0..2000u64)
            .map(|i| format!("w{}", (i * 7919 + seed) % 257))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[inline(never)]
    pub fn count(text: &str) -> HashMap<String, usize> {
        text.split(' ').fold(HashMap::new(), |mut map, word| {
            *map.entry(word.to_string()).or_insert(0) += 1;
            map
        })
    }

    pub trait Judge {
        fn judge(&self, counts: &HashMap<String, usize>) -> usize;
    }

    pub struct Strict;

    impl Judge for Strict {
        #[inline(never)]
        fn judge(&self, counts: &HashMap<String, usize>) -> usize {
            let mut sorted: Vec<_> = counts.iter().collect();
            sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
            if sorted.len() % 2 == 1 && sorted[0].1 % 5 == 4 {
                panic!("odd");
            }
            sorted.len()
        }
    }
}

#[inline(never)]
fn work(ms: f64, judge: &dyn words::Judge) -> usize {
    let mut rounds = 0;
    let until = thread_cpu_ms() + ms;
    while thread_cpu_ms() < until {
        let counts = words::count(&words::text(rounds as u64));
        let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| judge.judge(&counts)));
        rounds += 1;
    }
    rounds
}

fn main() {
    let ms = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(500.0);
    panic::set_hook(Box::new(|_| {}));
    let threads: Vec<_> = (0..2).map(|_| thread::spawn(move || work(ms, &words::Strict))).collect();
    let mut least = work(ms, &words::Strict);
    for thread in threads {
        least = least.min(thread.join().unwrap());
    }
    println!("{}", if least > 0 { "worked" } else { "idle" });
}
