# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# real_programs.py: servers that nobody here wrote, each with its load, and how to run a program under all that profd has at once. What
# test_programs_all_on.py and `scripts/bench programs` share.

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time

POSTGRES = '/usr/lib/postgresql/15/bin'

# What the agent switches on from the first moment; the CPU profile is `profd run`'s.
ALL_ON = {'PROFD_HEAP_RATE': '524288', 'PROFD_MUTEX_FRACTION': '1', 'PROFD_BLOCK_RATE': '10000', 'PROFD_BLOCK_IO': '1', 'PROFD_WAKERS': '1', 'PROFD_HEAP_MMAP': '1'}


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def answers(address):
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
        try:
            client.connect(address)
            return True
        except OSError:
            return False


def own_children(pid):
    """Those of its main thread. One that has ended has none."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as file:
        return [int(word) for word in file.read().split()]
    return []


def children(pid):
    """Theirs too."""
    own = own_children(pid)
    return own + [further for child in own for further in children(child)]


def child_of(profd_pid):
    """The command that `profd run` started, among what it started for itself."""
    own = os.readlink(f'/proc/{profd_pid}/exe')
    return next(pid for pid in own_children(profd_pid) if os.readlink(f'/proc/{pid}/exe') != own)


def cpu_s(pid):
    """CPU time of a process and its children, and of those that have ended and were waited for."""
    ticks = 0
    for process in [pid, *children(pid)]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f'/proc/{process}/stat', encoding='utf-8') as file:
            ticks += sum(int(word) for word in file.read().rpartition(')')[2].split()[11:15])
    return ticks / os.sysconf('SC_CLK_TCK')


class Server:
    """In a directory of its own, which every user may read. `prefix`: what the command is run by; `env`: beside the caller's."""

    # In subclasses: prepare(), command(), is_ready(); work(seconds): under load, for about so long: how much it did, and in how many seconds.
    needs = ()       # commands
    user = {}        # whom it runs as, for Popen

    def __init__(self, directory, prefix=(), env=()):
        self.directory, self.prefix, self.env = str(directory), list(prefix), dict(env)
        self.port = free_port()

    def __enter__(self):
        self.prepare()
        with open(self.path('stderr'), 'wb') as stderr, open(self.path('stdout'), 'wb') as stdout:
            self.process = subprocess.Popen([*self.prefix, *self.command()], env={**os.environ, **self.env}, stdin=subprocess.DEVNULL,
                                            stdout=stdout, stderr=stderr, start_new_session=True, **{'cwd': self.directory, **self.user})
        try:
            self.wait_for(self.is_ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """Whatever is left of it, by force."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def prepare(self):
        pass

    def path(self, name):
        return os.path.join(self.directory, name)

    def text(self, name):
        with open(self.path(name), encoding='utf-8', errors='replace') as file:
            return file.read()

    def wait_for(self, ready, seconds=60):
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f'{self.command()[0]} does not answer: {self.text("stderr")}{self.text("stdout")}')
            time.sleep(0.02)

    @property
    def pid(self):
        """The server's own, not that of what runs it."""
        return child_of(self.process.pid) if self.prefix else self.process.pid

    def end(self, signo=signal.SIGTERM):
        """Ends it by a signal; its status as a shell would say it."""
        os.kill(self.pid, signo)
        status = self.process.wait(60)
        return 128 - status if status < 0 else status

    def run(self, *command, timeout=120, **more):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout, check=False, **more)
        if done.returncode != 0:
            raise AssertionError(f'{command}: {done.returncode}: {done.stderr}{done.stdout}')
        return done.stdout


class Redis(Server):
    """With a file that is appended to, and synchronized by another thread. (Its threads for I/O spin: two CPUs are too few for them.)"""

    needs = ('redis-server', 'redis-benchmark', 'redis-cli')

    def command(self):
        return ['redis-server', '--port', '0', '--unixsocket', self.path('socket'), '--save', '', '--appendonly', 'yes',
                '--dir', self.directory]

    def is_ready(self):
        return os.path.exists(self.path('socket')) and answers(self.path('socket')) and 'PONG' in self.cli('ping')

    def cli(self, *words, **more):
        return self.run('redis-cli', '-s', self.path('socket'), *words, **more)

    def work(self, seconds):
        deadline, count, took = time.monotonic() + seconds, 20000, []
        while time.monotonic() < deadline:
            text = self.run('redis-benchmark', '-s', self.path('socket'), '-t', 'set,get', '-n', count, '-c', '20', '-r', '10000', '--csv')
            took += [count / float(line.split(',')[1].strip('"')) for line in text.splitlines()[1:]]
        return count * len(took), sum(took)


class Nginx(Server):
    """Two workers with a pool of threads; a page as it is, one that is compressed, and both through a second connection (/proxy)."""

    needs = ('nginx', 'wrk')
    PAGE = ''.join(f'<p>{i} {i * i}\n' for i in range(2000))

    def prepare(self):
        os.chmod(self.directory, 0o755)
        for name, text in (('page.html', self.PAGE), ('small.html', 'hello\n'), ('big.bin', self.PAGE * 40)):
            with open(self.path(name), 'w', encoding='ascii') as file:
                file.write(text)
        directory = self.directory
        with open(self.path('nginx.conf'), 'w', encoding='ascii') as file:
            file.write(f'''
                daemon off; worker_processes 2; pid {directory}/pid; error_log stderr;
                events {{ worker_connections 256; }}
                http {{ access_log off; default_type text/plain; gzip on; gzip_min_length 100; gzip_types *; aio threads; sendfile on;
                        client_body_temp_path {directory}/tmp; proxy_temp_path {directory}/tmp; fastcgi_temp_path {directory}/tmp;
                        uwsgi_temp_path {directory}/tmp; scgi_temp_path {directory}/tmp;
                        server {{ listen 127.0.0.1:{self.port}; root {directory};
                                  location /proxy/ {{ proxy_pass http://127.0.0.1:{self.port}/; }} }} }}''')

    def command(self):
        return ['nginx', '-c', self.path('nginx.conf'), '-e', 'stderr']

    def is_ready(self):
        return answers(('127.0.0.1', self.port))

    def load(self, page, seconds):
        """What wrk says."""
        text = self.run('wrk', '-t1', '-c8', f'-d{seconds}', '--timeout', '60', f'http://127.0.0.1:{self.port}/{page}')
        if 'Non-2xx' in text or 'Socket errors' in text:
            raise AssertionError(text)
        return text

    def work(self, seconds, page='small.html'):
        found = re.search(r'(\d+) requests in ([\d.]+)s', self.load(page, seconds))
        return int(found[1]), float(found[2])


class Postgres(Server):
    """As the user postgres, who must be able to read `prefix`. `data`: a cluster that was made before."""

    needs = (POSTGRES + '/postgres', POSTGRES + '/pgbench')
    user = {'user': 'postgres', 'group': 'postgres', 'extra_groups': [], 'cwd': '/'}
    scale, sync = 1, 'on'

    def prepare(self):
        user = pwd.getpwnam('postgres')
        os.chown(self.directory, user.pw_uid, user.pw_gid)
        self.env = {'HOME': self.directory, **self.env}
        if not os.path.exists(self.path('data')):
            self.tool('initdb', '-D', self.path('data'), '-A', 'trust', '-N')

    def command(self):
        return [POSTGRES + '/postgres', '-D', self.path('data'), '-k', self.directory, '-c', 'listen_addresses=', '-c', f'fsync={self.sync}',
                '-c', 'max_parallel_workers_per_gather=2', '-c', 'min_parallel_table_scan_size=0', '-c', 'parallel_setup_cost=0']

    def tool(self, name, *arguments):
        return self.run(f'{POSTGRES}/{name}', *arguments, env={**os.environ, 'HOME': self.directory}, **self.user)

    @property
    def where(self):
        return ['-h', self.directory, '-U', 'postgres', 'postgres']

    def is_ready(self):
        return subprocess.run([POSTGRES + '/pg_isready', '-q', '-h', self.directory], timeout=30, check=False).returncode == 0

    def sql(self, text):
        return self.tool('psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', text, *self.where)

    def fill(self):
        self.tool('pgbench', '-i', '-q', '-s', self.scale, *self.where)

    def load(self, *options):
        """What pgbench says."""
        return self.tool('pgbench', '-n', *options, *self.where)

    def work(self, seconds):
        text = self.load('-c', 4, '-j', 1, '-T', seconds)
        count = int(re.search(r'transactions actually processed: (\d+)', text)[1])
        return count, count / float(re.search(r'tps = ([\d.]+)', text)[1])


NODE_SERVER = '''
const http = require('http'), zlib = require('zlib'), crypto = require('crypto');
const items = [...Array(200).keys()].map(i => ({id: i, name: 'item ' + i, tags: ['a', 'b', String(i * i)]}));
http.createServer((request, response) => {
  const body = JSON.stringify(items.filter(item => item.id % 7 == request.url.length % 7));
  if (request.url.startsWith('/zip'))
    return zlib.gzip(body, (error, zipped) => response.end(zipped));
  if (request.url.startsWith('/hash'))
    return crypto.pbkdf2(body, 'salt', 500, 32, 'sha256', (error, key) => response.end(key.toString('hex')));
  response.end(body);
}).listen(+process.argv[2], '127.0.0.1');
process.on('SIGTERM', () => process.exit(7));
'''


class Node(Server):
    """An HTTP server in JavaScript; /zip and /hash make libuv's threads work."""

    needs = ('node', 'wrk')

    def prepare(self):
        with open(self.path('server.js'), 'w', encoding='ascii') as file:
            file.write(NODE_SERVER)

    def command(self):
        return ['node', self.path('server.js'), str(self.port)]

    is_ready, load = Nginx.is_ready, Nginx.load

    def work(self, seconds):
        return Nginx.work(self, seconds, 'hash')


# ---- Programs that come to an end ----------------------------------------------------------------------------------------------

SQL = '''
pragma journal_mode = wal; pragma synchronous = full;
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
  insert into t select i, printf('%08x', i * 2654435761 % 4294967296), i * 0.25 from n;
create index x on t(b); analyze;
select count(*), sum(a), max(b), min(b), total(c) from t;
select substr(b, 1, 1) s, count(*), avg(c), group_concat(a % 3, '') from (select * from t where a < 500) group by s order by s;
select count(*), sum(t1.c) from t t1 join t t2 on t2.b = printf('%08x', (t1.a + 1) * 2654435761 % 4294967296);
select a, row_number() over (partition by a % 5 order by b), lag(b) over (order by a) from t where a % {step} = 0 order by 1 limit 50;
begin; update t set c = c + 1 where a % 3 = 0; delete from t where a % 5 = 0; savepoint s; delete from t; rollback to s; commit;
select count(*), total(c) from t; select json_group_array(a) from t where a < 50; vacuum; pragma integrity_check;
select b like '%a%b%c%', count(*) from t group by 1;
'''

PYTHON = '''
import collections, concurrent.futures, hashlib, heapq, json, queue, random, re, sqlite3, subprocess, sys, threading, zlib
rounds = int(sys.argv[1])
random.seed(7)
words = [''.join(random.choices('abcdefgh', k=random.randint(3, 9))) for _ in range(3000)]
def work(i):
    text = json.dumps([{'word': word, 'n': n ^ i} for n, word in enumerate(words)])
    back = json.loads(text)
    counts = collections.Counter(re.findall('[a-c]+', text))
    top = heapq.nlargest(20, back, key=lambda item: (item['n'] * 7919 % 10007, item['word']))
    return hashlib.sha256(zlib.compress(text.encode())).hexdigest(), sorted(counts.items())[:5], [item['n'] for item in top]
digest = hashlib.sha256()
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for result in pool.map(work, range(rounds)):
        digest.update(repr(result).encode())
jobs, done = queue.Queue(10), queue.Queue()
def serve():
    while (job := jobs.get()) is not None:
        done.put(job * job)
threads = [threading.Thread(target=serve) for _ in range(5)]
[thread.start() for thread in threads]
[jobs.put(i) for i in range(100 * rounds)]
[jobs.put(None) for _ in threads]
[thread.join() for thread in threads]
database = sqlite3.connect(':memory:')
database.execute('create table t(a, b)')
database.executemany('insert into t values(?, ?)', ((i, words[i % 3000]) for i in range(1000 * rounds)))
child = subprocess.run(['sh', '-c', 'seq 1000 | sort -r | tail -n 1'], capture_output=True, text=True)
print(digest.hexdigest(), sum(done.get() for _ in range(100 * rounds)), database.execute('select count(*), max(b) from t').fetchall(), child.stdout)
'''

NODE = '''
const crypto = require('crypto'), fs = require('fs'), zlib = require('zlib'), {Worker, isMainThread, workerData, parentPort} = require('worker_threads');
const rounds = +process.argv[2] || 1;
const hash = text => crypto.createHash('sha256').update(text).digest('hex');
function work(seed, n) {
  const map = new Map();
  for (let i = 0; i < n; i++)
    map.set('key' + (i * seed) % 10007, {i, list: [i, i + 1, String(i)], text: 'x'.repeat(i % 50)});
  return hash(JSON.stringify([...map.entries()].sort((a, b) => a[0] < b[0] ? -1 : 1)).replace(/1\\d/g, 'y'));
}
if (!isMainThread)
  parentPort.postMessage(work(workerData, 20000));
else
  (async () => {
    const out = [];
    for (let round = 0; round < rounds; round++) {
      out.push(work(7919 + round, 100000));
      out.push(...await Promise.all([3, 5, 7].map(seed => new Promise((done, failed) => {
        new Worker(__filename, {workerData: seed}).on('message', done).on('error', failed); }))));
      out.push(...(await Promise.all([...Array(8).keys()].map(i => new Promise(done =>
        crypto.pbkdf2('secret' + i, 'salt', 2000, 32, 'sha512', (error, key) => done(key.toString('hex'))))))));
      out.push(hash(await new Promise(done => zlib.gzip(Buffer.alloc(1e6, 'abcdefghij' + round), (error, zipped) => done(zipped)))));
      await fs.promises.writeFile(process.argv[3], 'y'.repeat(300000));
      out.push(hash(await fs.promises.readFile(process.argv[3])));
    }
    console.log(hash(out.join()), out.length);
    console.error('done');
    process.exitCode = 3;
  })();
'''


def installed(names):
    return all(shutil.which(name) for name in names)
