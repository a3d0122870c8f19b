# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_programs_all_on.py: real programs under everything at once: CPU profile, heap, mutex, block with I/O, wakers. What they answer, print and
# write, how they end and what they say meanwhile is the same as without profd; and each profile has what the program is known to do.

import concurrent.futures
import contextlib
import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree

import pytest

import pprof_reader
import real_programs
from conftest import own_words
from real_programs import children
from test_programs import needs

# Short runs are to have samples of all kinds.
ALL_ON = {**real_programs.ALL_ON, 'PROFD_HEAP_RATE': '4096', 'PROFD_BLOCK_RATE': '1000'}


@pytest.fixture
def directory():
    """One that every user may read."""
    path = tempfile.mkdtemp(prefix='profd-programs-', dir='/tmp')
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def prefix_of(profd, output):
    return [profd, 'run', '--rate', '100', '-o', output, '--http', '127.0.0.1:0', '--']


class Profiles:
    """heap, mutex and block of processes that are still there; asked of the profd whose words are in `stderr`."""

    def __init__(self, stderr, pids):
        url = re.search(r'http://[0-9.:]+', stderr)[0]
        self.of = {kind: [sample for pid in pids for sample in self.get(f'{url}/{pid}/debug/pprof/{kind}')] for kind in ('heap', 'mutex', 'block')}

    @staticmethod
    def get(url):
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return pprof_reader.Profile(gzip.decompress(answer.read())).samples
        except urllib.error.HTTPError as error: # a server's child that came or went just now
            assert error.code == 404, error
            return []

    def waits(self, kind='block'):
        return {sample.labels['wait'] for sample in self.of[kind]}

    def allocated(self):
        return sum(sample.values[1] for sample in self.of['heap'])


def complaints(log, pattern):
    """The lines with it, but for numbers."""
    return {re.sub(r'\d+', '#', line) for line in own_words(log).splitlines() if re.search(pattern, line)}


# ---- Servers: `use` them without profd and with it, and end them by a signal --------------------------------------------------------

class Used:
    """How a server did: its answers, status, words; under profd also its profiles."""

    def __init__(self, server, use, profd_output):
        with server:
            self.answers = use(server)
            self.profiles = Profiles(server.text('stderr'), [server.pid, *children(server.pid)]) if profd_output else None
            self.status = server.end()
        self.stderr, self.stdout = server.text('stderr'), server.text('stdout')
        self.cpu = pprof_reader.read(profd_output) if profd_output else None


@pytest.fixture
def both(profd, directory):
    """both(class, use): (without profd, with everything on)."""

    def do(kind, use, profd=profd, env=()):
        results = []
        for name, prefix, more in (('plain', [], {}), ('all', prefix_of(profd, directory + '/all/cpu.pb.gz'), {**ALL_ON, **dict(env)})):
            os.mkdir(f'{directory}/{name}', 0o755)
            server = kind(f'{directory}/{name}', prefix, more)
            results.append(Used(server, use, directory + '/all/cpu.pb.gz' if prefix else None))
        plain, on = results
        assert on.answers == plain.answers
        assert on.status == plain.status, on.stderr
        return plain, on

    return do


def redis_commands():
    for i in range(1000):
        yield f'set key:{i % 500} {"v" * (i % 300)}{i}'
        yield f'rpush list:{i % 7} {i} {i * i}'
        yield f'zadd scores {i * 37 % 101} member:{i % 200}'
        yield f'hincrby hash:{i % 13} field:{i % 5} {i}'
        yield f'get key:{(i * 7) % 600}'
    yield from ('lrange list:3 0 -1', 'zrange scores 0 -1 withscores', 'hgetall hash:4', 'sort list:2 desc limit 0 20', 'incrbyfloat f 1.25', 'dbsize',
                'eval "return redis.call(\'get\', KEYS[1])" 1 key:77', 'getrange key:499 5 20', 'unlink list:1', 'object encoding hash:4', 'nonsense')


def use_redis(server):
    replies = server.cli(input='\n'.join(redis_commands()))
    server.run('redis-benchmark', '-s', server.path('socket'), '-n', 4000, '-q', '-c', 10, '-P', 4, '-t', 'set,get,lpush,lrange_100,zadd,mset')
    for command, what in (('bgsave', 'rdb_bgsave_in_progress'), ('bgrewriteaof', 'aof_rewrite_in_progress')):
        server.cli(command)
        server.wait_for(lambda what=what: f'{what}:0' in server.cli('info', 'persistence'))
    said = server.cli('info', 'persistence')
    server.cli('config', 'set', 'appendfsync', 'always')
    for i in range(20):
        replies += server.cli('incr', 'always')
    return replies, server.cli('dbsize'), server.cli('debug', 'digest'), re.findall(r'(\w+_status:\w+)', said)


class Redis(real_programs.Redis):
    def command(self):
        return [*super().command(), '--enable-debug-command', 'local']


@needs(*Redis.needs)
def test_redis(both):
    plain, on = both(Redis, use_redis)
    assert on.status == 0 and 'rdb_last_bgsave_status:ok' in on.answers[3] and 'aof_last_bgrewrite_status:ok' in on.answers[3]
    assert complaints(on.stdout, ' # ') == complaints(plain.stdout, ' # ') and own_words(on.stderr) == plain.stderr
    assert on.cpu.share('aeMain') > 0.5
    assert on.profiles.allocated() > 1e6
    assert on.profiles.waits() >= {'epoll', 'read', 'write', 'sync'}


def use_nginx(server):
    """Every body, from several clients at once, before and after its workers were replaced; and that many more."""

    def get(path):
        request = urllib.request.Request(f'http://127.0.0.1:{server.port}/{path}', headers={'Accept-Encoding': 'gzip'} if 'page' in path else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
            return answer.status, hashlib.sha256(gzip.decompress(body) if answer.getheader('Content-Encoding') else body).hexdigest()

    def get_all():
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return list(pool.map(get, ['page.html', 'small.html', 'big.bin', 'proxy/page.html', 'proxy/big.bin'] * 30))

    first = get_all()
    server.load('page.html', 1)
    before = set(children(server.pid))
    os.kill(server.pid, signal.SIGHUP)
    server.wait_for(lambda: len(set(children(server.pid)) - before) == 2)
    return first, get_all(), [hashlib.sha256(server.text(name).encode()).hexdigest() for name in ('page.html', 'small.html', 'big.bin')]


@needs(*real_programs.Nginx.needs)
def test_nginx(both):
    plain, on = both(real_programs.Nginx, use_nginx)
    assert on.status == 0 and own_words(on.stderr) == plain.stderr and on.stdout == plain.stdout
    first, second, truth = on.answers
    assert {status for status, _ in first + second} == {200} and {digest for _, digest in first + second} == set(truth)
    assert len({sample.labels['process_id'] for sample in on.cpu.samples}) >= 3
    assert on.profiles.allocated() > 1e5
    assert on.profiles.waits() >= {'epoll', 'receive', 'accept'}


BALANCES = '''select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history) and (select sum(tbalance) from pgbench_tellers)
               = (select sum(delta) from pgbench_history) and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history),
               (select count(*) from pgbench_history)'''
QUERIES = ['select count(*), sum(aid), max(filler) from pgbench_accounts', "select aid % 10, count(*), string_agg(aid::text, ',' order by aid) from "
           'pgbench_accounts where aid < 300 group by 1 order by 1', 'select count(*) from pgbench_accounts a join pgbench_accounts b on a.aid = b.bid + b.aid',
           "select md5(string_agg(md5(i::text), '' order by i)) from generate_series(1, 20000) i", 'select 1 / (aid - 50) from pgbench_accounts where aid = 51']


def use_postgres(server):
    server.fill()
    results = [server.sql(text) for text in QUERIES]
    said = [server.load('-c', 4, '-j', 2, '-t', 100), server.load('-c', 2, '-S', '-M', 'prepared', '-t', 300)]
    assert all('number of failed transactions: 0 (0.000%)' in text for text in said), said
    results += [re.findall(r'transactions actually processed: \S+', text) for text in said]
    balances = server.sql(BALANCES)
    with contextlib.suppress(AssertionError):
        server.sql('select no_such_column')
    server.sql('vacuum full pgbench_accounts')
    return results, balances, server.sql('select count(*), sum(aid) from pgbench_accounts')


@pytest.mark.skipif(os.geteuid() != 0, reason='PostgreSQL runs as a user of its own: needs root')
@needs(*real_programs.Postgres.needs)
def test_postgres(both, profd, agent, public):
    plain, on = both(real_programs.Postgres, use_postgres, profd=public(profd), env={'PROFD_AGENT': public(agent)})
    assert on.answers[1] == 't|400\n'
    bad = 'WARNING|ERROR|FATAL(?!:  the database system is starting up)|PANIC'
    assert on.status == 0 and complaints(on.stderr, bad) == complaints(plain.stderr, bad)
    assert len({sample.labels['process_id'] for sample in on.cpu.samples}) >= 5, 'the sessions are targets of their own'
    assert on.profiles.allocated() > 1e6
    assert on.profiles.waits() >= {'epoll', 'sync'}


def use_node(server):
    answers = []
    for path in ('', 'a', 'ab', 'hash', 'zip'):
        with urllib.request.urlopen(f'http://127.0.0.1:{server.port}/{path}', timeout=60) as answer:
            answers.append((answer.status, answer.read()))
    server.load('hash', 1)
    return answers


@needs(*real_programs.Node.needs)
def test_node_server(both):
    plain, on = both(real_programs.Node, use_node)
    assert on.status == 7 and own_words(on.stderr) == plain.stderr and on.stdout == plain.stdout
    assert on.profiles.allocated() > 1e6
    assert on.profiles.waits() >= {'epoll', 'condition'}


# ---- Programs that come to an end: at a gate, before it, profiles are taken -----------------------------------------------------------

@pytest.fixture
def both_ended(profd, directory):
    """both_ended(command): the same twice. Before its end the command reads the file `gate`, which takes until its profiles are there."""

    def once(name, command, prefix, env):
        place = tempfile.mkdtemp(prefix=name, dir=directory)
        os.mkfifo(place + '/gate')
        with open(place + '/stderr', 'wb') as stderr, open(place + '/stdout', 'wb') as stdout, \
                subprocess.Popen([*prefix, *command], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env={**os.environ, **env}, cwd=place) as process:
            gate = None
            while gate is None and process.poll() is None:
                with contextlib.suppress(OSError):
                    gate = os.open(place + '/gate', os.O_WRONLY | os.O_NONBLOCK) # once somebody reads
                time.sleep(0.02)
            profiles = None
            if prefix and gate is not None:
                with open(place + '/stderr', encoding='utf-8') as file:
                    profiles = Profiles(file.read(), [real_programs.child_of(process.pid)])
            if gate is not None:
                os.close(gate)
            status = process.wait(120)
        with open(place + '/stderr', encoding='utf-8') as stderr, open(place + '/stdout', 'rb') as stdout:
            return (status, stdout.read(), own_words(stderr.read())), profiles

    def do(command):
        plain, _ = once('plain', command, [], {})
        on, profiles = once('all', command, prefix_of(profd, directory + '/cpu.pb.gz'), ALL_ON)
        assert on == plain
        return plain, profiles, pprof_reader.read(directory + '/cpu.pb.gz')

    return do


@needs('sqlite3')
def test_sqlite(both_ended, directory):
    sql = real_programs.SQL.format(rows=30000, step=300) + ".print '='\n.dump t\nselect no_such_column;\n.shell cat gate\n.exit 5\n"
    with open(directory + '/sql', 'w', encoding='ascii') as file:
        file.write(sql)
    (status, output, errors), profiles, cpu = both_ended(['sqlite3', '-batch', 'database', f'.read {directory}/sql'])
    assert status == 5 and output.count(b'INSERT INTO t') == 24000 and b'\nok\n' in output and 'no such column' in errors
    assert cpu.share('sqlite3_step') + cpu.share('sqlite3VdbeExec') > 0
    assert profiles.allocated() > 1e6
    assert profiles.waits() >= {'sync', 'read', 'write'}


def test_python(both_ended):
    for rounds in ('12', '36', '108'):  # a machine with one CPU at a time leaves little to wait for
        (status, output, _), profiles, cpu = both_ended(['/usr/bin/python3', '-c', real_programs.PYTHON + "open('gate').read(); sys.exit(9)", rounds])
        if profiles.waits('mutex'):
            break
    assert status == 9 and output
    assert any('PyEval' in name for sample in cpu.samples for name in sample.stack)
    assert profiles.allocated() > 1e7
    assert profiles.waits() >= {'condition', 'semaphore', 'child', 'read'}
    assert profiles.waits('mutex') == {'mutex'}, 'the interpreter lock'


@needs('node')
def test_node(both_ended, directory):
    with open(directory + '/script.js', 'w', encoding='ascii') as file:
        file.write(real_programs.NODE.replace("console.error('done');", "console.error('done'); fs.readFileSync('gate');"))
    (status, output, errors), profiles, cpu = both_ended(['node', directory + '/script.js', '1', 'scratch'])
    assert status == 3 and output and errors == 'done\n'
    assert cpu.cpu_seconds() > 0.3
    assert profiles.allocated() > 1e7
    assert profiles.waits() >= {'condition', 'epoll', 'mutex'}
    assert profiles.of['mutex']


# ---- Python's own tests ----------------------------------------------------------------------------------------------------------------

# Threads, processes, signals, sockets, files, memory; and quick. scripts/bench programs takes others.
SUITE = ['test_thread', 'test_threading_local', 'test_posix', 'test_file_eintr', 'test_fcntl', 'test_mmap', 'test_epoll', 'test_asyncore', 'test_httpservers',
         'test_ctypes', 'test_json']


# Both fail where something else takes more than 10 ms of the CPU at the wrong moment.
BY_THE_CLOCK = ('.test_control_and_wait', '.test_unregister_closed')


def outcomes(path):
    """test → passed, failed, skipped"""
    cases = xml.etree.ElementTree.parse(path).getroot().iter('testcase')
    return {case.get('name'): sorted(child.tag for child in case if child.tag in ('failure', 'error', 'skipped')) or ['passed'] for case in cases}


@pytest.mark.skipif(not os.path.exists('/usr/lib/python3.11/test/test_thread.py'), reason='not installed: libpython3.11-testsuite')
def test_pythons_tests(profd, directory):
    def run_suite(name, profiled, tests):
        os.mkdir(f'{directory}/{name}')
        prefix = prefix_of(profd, f'{directory}/{name}.pb.gz') if profiled else []
        done = subprocess.run([*prefix, '/usr/bin/python3.11', '-m', 'test', '-j4', '--junit-xml', f'{directory}/{name}.xml', *tests], capture_output=True, text=True,
                              timeout=600, env={**os.environ, **(ALL_ON if profiled else {}), 'TMPDIR': f'{directory}/{name}'}, cwd=f'{directory}/{name}', check=False)
        return done, outcomes(f'{directory}/{name}.xml')

    def once(name, profiled):
        done, result = run_suite(name, profiled, SUITE)
        for attempt in range(10):
            late = [case for case in result if case.endswith(BY_THE_CLOCK) and result[case] != ['passed']]
            if not late:
                break
            done, again = run_suite(f'{name}-{attempt}', profiled, ['test_epoll', *(word for case in BY_THE_CLOCK for word in ('-m', case[1:]))])
            result.update(again)
        return done, result

    with concurrent.futures.ThreadPoolExecutor() as pool: # much of it is waiting
        other = pool.submit(once, 'plain', False)
        done, result = once('all', True)
    alone, truth = other.result()
    assert (done.returncode, result) == (alone.returncode, truth), done.stderr
    assert list(truth.values()).count(['passed']) > 700
    assert pprof_reader.read(directory + '/all.pb.gz').cpu_seconds() > 1
