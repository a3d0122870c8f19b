#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# symbolization_oracle.py: names, inlined chains, files and lines beside llvm-symbolizer's at a million addresses, in programs large enough
# to have them: profd itself, templates of the C++ library, Rust's collections; by gcc, clang and rustc, at -O2, -O3 and with LTO. It says
# how many are equal by the rules of docs/symbolization.md, and each kind of difference with how often it was found and where.
# test_symbolization.py runs a few thousand addresses of small programs.
#
# usage: tests/e2e/symbolization_oracle.py [-k DIRECTORY] [ADDRESSES [PROGRAM…]]      (1,000,000; -k keeps the programs)

import collections
import concurrent.futures
import glob
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import test_symbolization as small

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / 'build'
LIBRARIES = ['-lelf', '-ldw', '-llzma', '-lz', '-lmicrohttpd', '-lxxhash', '-ljansson', '-liberty', '-ldl', '-ldeflate', '-lprotobuf-c',
             '-lpthread']
EXAMPLES = 12

LEVELS = {'O2': ['-O2'], 'O3': ['-O3'], 'lto': ['-O2', '-flto']}
RUST_LEVELS = {'O2': ['opt-level=2'], 'O3': ['opt-level=3'], 'lto': ['opt-level=3', 'lto=fat']}

CPP_HEAD = '''#include <algorithm>
#include <deque>
#include <filesystem>
#include <functional>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>
'''

CPP_PART = '''namespace part@ {
struct key { long a; std::string b; bool operator<(const key &o) const { return a != o.a ? a < o.a : b < o.b; }
	bool operator==(const key &o) const { return a == o.a && b == o.b; } };
struct hash { size_t operator()(const key &k) const { return std::hash<std::string>()(k.b) ^ (size_t)k.a; } };
struct shape { virtual ~shape() {} virtual double area() const = 0; };
struct circle : shape { double r; explicit circle(double x) : r(x) {} double area() const override { if (r < 0) throw std::out_of_range("r"); return r * r * (3 + @); } };
static long collections(int n) {
	std::map<key, std::vector<long>> m; std::unordered_map<key, long, hash> u; std::set<key> s; std::deque<key> d; std::list<key> l;
	for (int i = 0; i < n; i++) { key k{i * @ % 17, std::to_string(i)}; m[k].push_back(i); u[k] += i; s.insert(k); d.push_front(k); l.push_back(k); }
	std::sort(d.begin(), d.end()); std::stable_sort(d.begin(), d.end(), [](const key &x, const key &y) { return y < x; }); l.sort(); l.unique();
	long sum = std::accumulate(d.begin(), d.end(), 0L, [](long t, const key &k) { return t + k.a; });
	for (auto &[k, v] : m) sum += (long)v.size() + k.a; for (auto &[k, v] : u) sum += v; m.erase(m.begin()); u.clear();
	return sum + (long)s.size() + (long)std::count_if(l.begin(), l.end(), [](const key &k) { return k.a % 2; });
}
static long others(int n) {
	std::ostringstream out; std::variant<int, std::string, std::vector<key>> v = std::string("x"); std::optional<key> o;
	std::vector<std::unique_ptr<shape>> shapes; std::function<long(long)> f = [n](long x) { return x * n + @; };
	for (int i = 0; i < n; i++) { shapes.emplace_back(new circle(i)); out << shapes.back()->area() << f(i) << std::hex << i; if (i % 3 == @ % 3) v = std::vector<key>(3); o = key{i, "o"}; }
	try { circle(-1).area(); } catch (const std::exception &e) { out << e.what(); }
	return (long)out.str().size() + std::visit([](auto &x) -> long { return (long)sizeof(x); }, v) + (o ? o->a : 0);
}
long run(int n) { return collections(n) + others(n); }
}
'''

RUST_PART = '''mod part@ {
    use std::collections::{BTreeMap, HashMap, VecDeque};
    #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct Key { pub a: u64, pub b: String, pub c: [u8; @ + 1] }
    pub trait Shape { fn area(&self) -> f64; }
    pub struct Circle(pub f64);
    impl Shape for Circle { fn area(&self) -> f64 { self.0 * self.0 * @ as f64 } }
    pub fn run(n: u64) -> Result<u64, Box<dyn std::error::Error>> {
        let mut map = BTreeMap::new(); let mut table = HashMap::new(); let mut queue = VecDeque::new();
        for i in 0..n { let key = Key { a: i * @ % 17, b: format!("{}-{:x}", i, i), c: [i as u8; @ + 1] };
            map.entry(key.clone()).or_insert_with(Vec::new).push(i); *table.entry(key.clone()).or_insert(0u64) += i; queue.push_front(key); }
        let mut all: Vec<Key> = queue.into_iter().collect(); all.sort(); all.sort_unstable_by(|x, y| y.cmp(x)); all.dedup_by_key(|k| k.a);
        let shapes: Vec<Box<dyn Shape>> = all.iter().map(|k| Box::new(Circle(k.a as f64)) as Box<dyn Shape>).collect();
        let area: f64 = shapes.iter().map(|s| s.area()).sum(); let number: u64 = format!("{}", n).parse()?;
        let text = all.iter().map(|k| format!("{:?}", k)).collect::<Vec<_>>().join(",");
        map.retain(|k, _| k.a % 2 == 0); Ok(map.values().map(|v| v.len() as u64).sum::<u64>() + table.len() as u64 + area as u64 + number + text.len() as u64)
    }
}
'''


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


def profd_units():
    """(source, its options) of profd, as the build has them."""
    units = []
    for entry in json.loads((BUILD / 'compile_commands.json').read_text()):
        words, output = shlex.split(entry['command']), entry['output']
        if output.startswith(('collector/libcollector.a.p/', 'collector/profd.p/', 'collector/liboutside.a.p/', 'formats/libformats.a.p/')):
            options = [word for word in words if word.startswith(('-I', '-D'))]
            units.append((entry['file'], options + (['-include', 'collector/outside.h'] if 'outside' in output else [])))
    return units


def build_profd(compiler, options, output):
    objects = output.parent / f'{output.name}.objects'
    objects.mkdir()

    def compile_one(numbered):
        number, (source, more) = numbered
        run([compiler, *options, '-g', '-std=gnu11', '-w', *more, '-c', source, '-o', objects / f'{number}.o'], cwd=BUILD)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_one, enumerate(profd_units())))
    run([compiler, *options, '-g', '-w', *sorted(glob.glob(f'{objects}/*.o')), *LIBRARIES, '-o', output])


def build_cpp(compiler, options, output):
    source = output.parent / 'templates.cpp'
    parts = range(1, 9)
    source.write_text(CPP_HEAD + ''.join(CPP_PART.replace('@', str(part)) for part in parts) +
                      'int main(int argc, char **argv) { std::regex r(argc > 1 ? argv[1] : "a+(b|c)*"); std::wregex w(L"x[0-9]+y"); '
                      'std::mt19937_64 g(7); std::thread t([&] { std::cout << std::regex_replace(std::string("aabbcc"), r, "<$&>") '
                      '<< std::regex_match(std::wstring(L"x1y"), w) << g() << std::filesystem::path("/a/../b").lexically_normal(); }); t.join(); '
                      'return (int)(' + ' + '.join(f'part{part}::run(argc * 9)' for part in parts) + '); }\n')
    run([compiler, *options, '-std=c++17', '-g', '-w', source, '-o', output, '-lpthread'])


def build_rust(_, options, output):
    source = output.parent / 'collections.rs'
    parts = range(1, 13)
    source.write_text(''.join(RUST_PART.replace('@', str(part)) for part in parts) +
                      'fn main() { let n = std::env::args().count() as u64 * 9; let mut sum = 0; ' +
                      ''.join(f'sum += part{part}::run(n).unwrap(); ' for part in parts) + 'println!("{}", sum); }\n')
    run(['rustc', '-g', *(word for option in options for word in ('-C', option)), source, '-o', output])


def programs():
    """name → (how, compiler, options)"""
    found = {}
    for level, options in LEVELS.items():
        for c, cpp in (('gcc', 'g++'), ('clang', 'clang++')):
            found[f'profd {c} {level}'] = (build_profd, c, options)
            found[f'templates {cpp} {level}'] = (build_cpp, cpp, options)
    for level, options in RUST_LEVELS.items():
        found[f'collections rustc {level}'] = (build_rust, 'rustc', options)
    return found


def describe(kind, mine, other, readable, values):
    """What a difference is about: the first frame that is another one, and how deep the chains are."""
    for depth, (one, another) in enumerate(zip(mine, other)):
        if small.difference([one], [another], readable, values):
            return f'{kind}: frame {depth} of {len(mine)}: {one[0]} {one[1]}:{one[2]} | {another[0]} {another[1]}:{another[2]}'
    return f'{kind}: {len(mine)} and {len(other)} frames, of {mine[-1][0] if mine else "-"} | {other[-1][0] if other else "-"}'


def rule(mine, other, readable, values):
    """By which rule answers that are not the same to the letter count as equal; the first frame's."""
    if not mine or not other:
        return 'code without debug info, or without a function'
    for (name, file, number), (their_name, their_file, _) in zip(mine, other):
        if name != their_name:
            if small.whole(name) == small.whole(their_name):
                return 'a part of a function (.cold, .isra, .constprop…), a local that LTO numbered (.123)'
            if readable.get(small.whole(name)) == readable.get(small.whole(their_name)):
                return 'the bodies of a constructor or destructor'
            if not their_name.startswith(('_Z', '_R')):
                return 'no linkage name in DWARF: the symbol here'
            if not name.startswith(('_Z', '_R')):
                return 'no linkage name in DWARF: the symbol there'
            return 'folded functions'
        if file != their_file:
            return 'a path that is relative, or not known there' if number else 'a file without a line, of which there is none here'
    return 'other'


def compare(path, count):
    chosen = small.function_addresses(path, count)
    mine, other = small.ours(path, chosen, ''), small.theirs(path, chosen)
    readable, values = small.demangled(small.all_names(mine, other)), small.symbol_values(path)
    kinds, places, rules = collections.Counter(), collections.Counter(), collections.Counter()
    for address in chosen:
        one, another = mine.get(address, []), other.get(address, [])
        kind = small.difference(one, another, readable, values)
        kinds[kind] += 1
        kinds['to the letter'] += one == another
        if not kind and one != another:
            rules[rule(one, another, readable, values)] += 1
        if kind:
            places[describe(kind, one, another, readable, values)] += 1
    return len(chosen), kinds, places, rules


def main(arguments):
    keep = None
    if arguments[:1] == ['-k']:
        keep, arguments = pathlib.Path(arguments[1]), arguments[2:]
    count, wanted = int(arguments[0]) if arguments else 1000000, arguments[1:]
    chosen = {name: how for name, how in programs().items() if (not wanted or name in wanted) and shutil.which(how[1])}
    total, kinds, all_rules = 0, collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(keep or directory)
        for number, (name, (build, compiler, options)) in enumerate(chosen.items()):
            output = directory / name.replace(' ', '-')
            start = time.monotonic()
            if not output.exists():
                build(compiler, options, output)
            built = time.monotonic()
            # What a small program could not have, the next ones do.
            n, found, places, rules = compare(output, (count - total) // (len(chosen) - number))
            total, kinds, all_rules = total + n, kinds + found, all_rules + rules
            print(f'{name}: {found[None]} of {n} equal ({found[None] / n:.4%}), {found["to the letter"]} of them to the letter; built in {built - start:.0f} s, compared in '
                  f'{time.monotonic() - built:.0f} s', flush=True)
            for place, times in places.most_common(EXAMPLES):
                print(f'  {times:7}  {place}', flush=True)
    print('\nequal by a rule:')
    for name, times in all_rules.most_common():
        print(f'  {times:7}  {name}')
    print(f'all: {kinds[None]} of {total} equal ({kinds[None] / max(1, total):.4%}), {kinds["to the letter"]} of them to the '
          f'letter; different: {", ".join(f"{kind} {times}" for kind, times in kinds.most_common() if kind and kind != "to the letter")}')
    return 0 if kinds[None] >= small.AT_LEAST * total else 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
