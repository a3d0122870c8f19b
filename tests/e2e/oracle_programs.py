#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# oracle_programs.py: which programs unwind_oracle is held against, and the full run, about ten minutes: each program's figures, each
# kind of difference with how often it was found, and how many different instructions there were in all. docs/unwinding.md has its
# results; test_unwind.py runs a few of them.
#
# usage: tests/e2e/oracle_programs.py BUILD_DIRECTORY [PROGRAM…]

import array
import collections
import os
import re
import subprocess
import sys
import tempfile
import time

SQL = '''create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i+1 from n where i<300) insert into t select i, hex(i*7919), i*0.5 from n;
create index x on t(b); create view v as select b, sum(c) over (order by a) s from t where a % 3 = 0;
select count(*), sum(a.c) from t a join t b using (b); select substr(b,1,3) k, count(*), group_concat(a) from t group by k order by 2 desc;
select json_group_array(json_object('a', a, 'b', b)) from t where b like '%3%' union all select max(s) from v;
update t set c = c * 2 where a in (select a from t where b > 'A'); delete from t where a % 7 = 0; vacuum; pragma integrity_check;'''

PYTHON = '''import json, re, random, zlib, hashlib, decimal, sqlite3, asyncio, csv, io, email, xml.etree.ElementTree as tree, ast, struct
json.loads(json.dumps({"a": [1.5, None, "x" * 99]})); re.sub("(a|b)+c?", lambda m: m[0].upper(), "abcabc" * 9)
zlib.decompress(zlib.compress(b"profd" * 999, 9)); hashlib.sha512(b"x").hexdigest(); decimal.Decimal(2).sqrt()
sorted(random.Random(1).sample(range(999), 99)); tree.fromstring("<a><b c='d'/></a>"); ast.parse("def f(x): return [y for y in x]")
sqlite3.connect(":memory:").execute("select 1").fetchall(); asyncio.run(asyncio.sleep(0)); list(csv.reader(io.StringIO("a,b")))
def fall(n): return 1 / n if not n else fall(n - 1)
try: fall(50)
except ZeroDivisionError: pass'''

PERL = '''my %h; for my $i (1..500) { my $s = sprintf("%05d %x %e", $i, $i, $i/7); $s =~ s/(\\d)(\\d)/$2$1/g; $h{$s} = [split / /, $s]; }
local $SIG{ALRM} = sub { }; print join(",", sort { $h{$a}[1] cmp $h{$b}[1] } keys %h), pack("N*", 1..9), lc(uc("profd")); eval { die "x" };'''

NODE = '''const z = require("zlib"), c = require("crypto"); JSON.parse(JSON.stringify({a: [..."abc"], b: /x+/.exec("axxb")}));
z.gunzipSync(z.gzipSync("profd".repeat(999))); c.createHash("sha256").update("x").digest("hex"); c.generateKeyPairSync("ec", {namedCurve: "P-256"});
new Map(Array.from({length: 999}, (_, i) => [i, String(i)])); [3, 1, 2].sort((a, b) => a - b); new Intl.NumberFormat("de").format(1e6);'''

CPP = '''#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <thread>
#include <vector>
int main(int argc, char **argv) {
	std::map<std::string, int> m; std::regex r("a+b"); std::vector<int> v{3, 1, argc}; std::string s = "aaab";
	for (int i = 0; i < 10 * argc; i++) m[std::to_string(i) + s] = i;
	std::sort(v.begin(), v.end()); auto p = std::make_shared<int>(argc); std::function<int(int)> f = [p](int x) { return x + *p; };
	std::thread t([&] { v.push_back(f(2)); }); t.join();
	try { if (argc > 9) throw std::runtime_error("x"); } catch (const std::exception &e) { std::cout << e.what(); }
	std::cout << std::regex_match(s, r) << m.size() << v[0];
}
'''

FACTOR = ['factor', '46116860184273879040000000000000000000003']

CC1PLUS = '/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus'
GCC = ['-quiet', '-imultiarch', 'x86_64-linux-gnu', '-D_GNU_SOURCE']


def speed(*algorithms):
    return ['openssl', 'speed', '-seconds', '1', '-bytes', '64', *algorithms]


def commands(build, directory):
    """name → (options, command). Steps: with the truth; -b: a storm."""
    source = os.path.join(directory, 'program.cpp')
    with open(source, 'w') as file:
        file.write(CPP)
    cpp = os.path.join(build, 'tests/e2e/target_cpp')
    return {
        'steps: sqlite3': (['-e', '-n', '1500000'], ['sqlite3', ':memory:', SQL]),
        'steps: python3': (['-e', '-n', '2000000'], ['/usr/bin/python3', '-S', '-c', 'import json; json.dumps({"a": 1.5})']),
        'steps: openssl': (['-e', '-n', '1000000'], ['openssl', 'dgst', '-sha512', source]),
        'steps: C++': (['-e', '-n', '1000000'], [cpp, '1']),
        'steps: perl': (['-e', '-n', '1000000'], ['perl', '-e', PERL]),
        'steps: factor (GMP)': (['-e', '-n', '400000'], FACTOR),
        'sqlite3': (['-b', '60'], ['sqlite3', ':memory:', SQL]),
        'python3': (['-b', '60'], ['/usr/bin/python3', '-c', PYTHON]),
        'openssl speed, ciphers': (['-b', '60'], speed('aes-128-cbc', 'aes-256-cbc', 'camellia-128-cbc', 'des-ede3')),
        'openssl speed, AES-GCM': (['-b', '60'], speed('-evp', 'aes-256-gcm')),
        'openssl speed, ChaCha20': (['-b', '60'], speed('-evp', 'chacha20-poly1305')),
        'openssl speed, hashes': (['-b', '60'], speed('sha1', 'sha256', 'sha512', 'md5', 'ghash')),
        'openssl speed, keys': (['-b', '90'], ['openssl', 'speed', '-seconds', '1', 'rsa2048', 'dsa2048', 'ecdsap256',
                                              'ecdhx25519', 'ed25519', 'ecdsap384', 'ffdh2048']),
        'C++': (['-b', '60'], [cpp, '50']),
        'perl': (['-b', '60'], ['perl', '-e', PERL]),
        'git': (['-b', '60'], ['git', '-C', os.path.dirname(os.path.abspath(__file__)), 'log', '--stat', '-n', '50']),
        'gdb': (['-b', '60'], ['gdb', '-nx', '-batch', '-ex', 'info line main', '-ex', 'disassemble main', '-ex', 'info types',
                               cpp]),
        'node (V8: its built-in code has no CFI)': (['-b', '60'], ['node', '--jitless', '--no-short-builtin-calls', '-e', NODE]),
        'gcc (cc1plus -O2 -g)': (['-b', '180'], [CC1PLUS, '-O2', '-g', *GCC, source, '-o', '/dev/null']),
        'clang -O2': (['-b', '180'], ['/usr/lib/llvm-14/bin/clang', '-cc1', '-triple', 'x86_64-pc-linux-gnu', '-O2', '-S',
                                      '-fgnuc-version=4.2.1', '-fcxx-exceptions', '-fexceptions', '-x', 'c++', '-internal-isystem',
                                      '/usr/include/c++/12', '-internal-isystem', '/usr/include/x86_64-linux-gnu/c++/12',
                                      '-internal-isystem', '/usr/lib/llvm-14/lib/clang/14.0.6/include', '-internal-isystem',
                                      '/usr/include/x86_64-linux-gnu', '-internal-isystem', '/usr/include',
                                      source, '-o', '/dev/null']),
    }


class Result:
    def __init__(self, text):
        lines = text.splitlines()
        self.values = {name: int(value) for name, value in re.findall(r'(\w+)=(-?\d+)', lines[0])}
        self.kinds = {match[2]: (int(match[1]), match[3])
                      for match in (re.match(r'\s*(\d+)  (.*) \((0x[0-9a-f]+)\)$', line) for line in lines[1:]) if match}

    def agreement(self, *names):
        """Share of the instructions where none of these is counted."""
        return 1 - sum(self.values[name] for name in names) / max(1, self.values['pcs'])


def oracle(build, options, command, keys=None, timeout=600):
    """Runs one program. The oracle's own verdict is not asked for: the figures are."""
    result = subprocess.run([os.path.join(build, 'tests/e2e/unwind_oracle'), '-s', '0', *(['-k', keys] if keys else []),
                             *options, *command],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)
    assert result.returncode == 0 and result.stdout.startswith('steps='), (command[0], result.returncode, result.stderr[-500:])
    return Result(result.stdout)


def general(kind):
    """A kind without the file's name, unless it is the point."""
    return re.sub(r'above (leaf of )?(?!ld-linux|libc\.so|no file)\S+?(?=,? no CFI|, against|;|$)',
                  lambda match: 'above ' + (match[1] or '') + 'a module', kind)


def main(build, wanted):
    kinds, distinct = collections.Counter(), set()
    with tempfile.TemporaryDirectory() as directory:
        for name, (options, command) in commands(build, directory).items():
            if wanted and name not in wanted:
                continue
            keys = os.path.join(directory, 'keys')
            if os.path.exists(keys):
                os.unlink(keys)
            start = time.monotonic()
            result = oracle(build, options, command, keys)
            with open(keys, 'rb') as file:
                distinct.update(array.array('Q', file.read()))
            values = result.values
            print(f'{name}: {values["pcs"]} PCs, {values["frames"] / max(1, values["walks"]):.1f} frames; untrue '
                  f'{values["untrue"] if values["truth"] else "-"}; libunwind {values["libunwind_differs"]} + '
                  f'{values["libunwind_no_cfi"]}, libdw {values["libdw_differs"]} + {values["libdw_no_cfi"]} without CFI; '
                  f'incomplete {values["incomplete"]}; ended {values["ended"]}; {time.monotonic() - start:.0f} s; '
                  f'{len(distinct)} in all', flush=True)
            for kind, (count, example) in result.kinds.items():
                kinds[general(kind)] += count
                print(f'  {count:8}  {kind} ({example})', flush=True)
    print('\nAll kinds, in walks:')
    for kind, count in kinds.most_common():
        print(f'  {count:8}  {kind}')
    print(f'{len(distinct)} different instructions')


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit('usage: tests/e2e/oracle_programs.py BUILD_DIRECTORY [PROGRAM…]')
    main(os.path.abspath(sys.argv[1]), sys.argv[2:])
