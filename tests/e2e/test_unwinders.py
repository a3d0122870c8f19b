# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_unwinders.py: PROFD_UNWIND chooses who walks the stack; libunwind, the oracle, sees what the tables see.

import re
import subprocess
import urllib.request

import pytest

from real_programs import child_of
from waiting import wait_until

SQL = 'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 4000000) SELECT sum(x*x%7) FROM c'


def shapes(profile, least):
    """The stacks that take at least this share, leaf left out: which instruction is hit is chance."""
    total = sum(sample.values[1] for sample in profile.samples)
    shares = {}
    for sample in profile.samples:
        key = tuple(sample.stack[1:])
        shares[key] = shares.get(key, 0) + sample.values[1] / total
    return {key for key, share in shares.items() if share >= least}


@pytest.mark.parametrize('command', [('setarch', '-R', 'sqlite3', ':memory:', SQL), ('target_deep', 2, 30, 300)], ids=['sqlite3', 'deep'])
def test_libunwind_sees_the_same(run, helper, command):
    if command[0].startswith('target'):
        command = (helper(command[0]), *command[1:])
    seen = []
    for unwinder in ('table', 'libunwind'):
        done = run(*command, rate=1000, env={'PROFD_UNWIND': unwinder})  # so many that no share is near the limit by chance
        assert done.status == 0 and 'PROFD_UNWIND' not in done.stderr
        assert done.profile.complete() >= 0.99
        seen.append(shapes(done.profile, 0.1))
    assert seen[0] & seen[1] and len(seen[0] ^ seen[1]) <= 2, seen


@pytest.mark.figures
def test_libunwind_while_libraries_come_and_go(same, helper):
    assert same(helper('target_dl'), helper('plugin.so'), 2000, rate=1000, env={'PROFD_UNWIND': 'libunwind'}).status == 0


def test_frame_pointers_alone(run):
    """sqlite3 has none: the leaf is right, and the profile says that the stacks are cut."""
    done = run('sqlite3', ':memory:', SQL, rate=250, env={'PROFD_UNWIND': 'fp'})
    assert done.profile.complete() < 0.9
    assert 'truncated' in done.stderr


def test_unknown_one_is_said(run):
    done = run('true', env={'PROFD_UNWIND': 'tea-leaves'})
    assert done.status == 0
    assert "PROFD_UNWIND 'tea-leaves': not table, fp or libunwind" in done.stderr


def test_program_with_libunwind_itself(run, helper):
    """Its libunwind calls libc's functions, which our handler must not."""
    done = run(helper('target_deep'), 1, 10, 100, env={'PROFD_UNWIND': 'libunwind', 'LD_PRELOAD': 'libunwind.so.8'})
    assert done.status == 0 and 'uses libunwind itself' in done.stderr
    assert done.profile.complete() >= 0.99


def tables_now(url):
    with urllib.request.urlopen(url + '/metrics') as answer:
        metrics = answer.read().decode()
    return tuple(int(re.search(rf'^profd_unwind_tables_total{{source="{source}"}} (\d+)$', metrics, re.M)[1])
                 for source in ('built', 'cache'))


def executable_modules(pid):
    """Each has a table, but the page that the kernel has for old system calls."""
    with open(f'/proc/{pid}/maps', encoding='utf-8') as file:
        mappings = [line.split() for line in file]
    return {words[5] for words in mappings if 'x' in words[1] and len(words) > 5} - {'[vsyscall]'}


def tables_of_a_run(profd, cache):
    """How many unwind tables a run of sqlite3 built, and took from the cache."""
    with subprocess.Popen([profd, 'run', '--http', '127.0.0.1:0', '-o', '/dev/null', '--format', 'pprof', '--', 'sqlite3'], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={'PATH': '/usr/bin:/bin', 'PROFD_CACHE_DIR': str(cache)}) as child:
        url = re.search(r'http://\S+?:\d+', child.stderr.readline())[0]
        child.stdin.write('select 42;\n')
        child.stdin.flush()
        assert child.stdout.readline() == '42\n'  # its main runs: the tables are there, or take longer than it waits for them
        modules = executable_modules(child_of(child.pid))
        wait_until(lambda: sum(tables_now(url)) >= len(modules), what=f'the tables of {modules}')
        now = tables_now(url)
        child.communicate('.quit\n', timeout=120)
    return now


def test_second_run_builds_no_table(profd, tmp_path):
    cache = tmp_path / 'cache'
    cache.mkdir(0o700)
    built, found = tables_of_a_run(profd, cache)
    assert built >= 5 and found == 0
    again_built, again_found = tables_of_a_run(profd, cache)
    assert again_found == len(list(cache.glob('*.unwind'))) >= 5
    assert again_built == built - again_found <= 2  # the vDSO, and what has no build ID
    for file in cache.glob('*.unwind'):
        file.write_bytes(file.read_bytes()[:-1] + b'x')
    assert tables_of_a_run(profd, cache) == (built, 0)
    assert tables_of_a_run(profd, '') == (built, 0)
