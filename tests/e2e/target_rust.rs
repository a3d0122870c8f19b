// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_rust.rs: a Rust program as they are: iterators inlined, hash maps, strings, closures in threads, panics caught.
//
// usage: target_rust MS

use std::collections::HashMap;
use std::panic;
use std::thread;
use std::time::{Duration, Instant};

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
fn work(until: Instant, judge: &dyn words::Judge) -> usize {
    let mut rounds = 0;
    while Instant::now() < until {
        let counts = words::count(&words::text(rounds as u64));
        let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| judge.judge(&counts)));
        rounds += 1;
    }
    rounds
}

fn main() {
    let ms = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(500);
    let until = Instant::now() + Duration::from_millis(ms);
    panic::set_hook(Box::new(|_| {}));
    let threads: Vec<_> = (0..2).map(|_| thread::spawn(move || work(until, &words::Strict))).collect();
    let mut least = work(until, &words::Strict);
    for thread in threads {
        least = least.min(thread.join().unwrap());
    }
    println!("{}", if least > 0 { "worked" } else { "idle" });
}
