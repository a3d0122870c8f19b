# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_snapshot_programs.py: programs that nobody here wrote, from outside and as they wait: 99% of their threads' stacks reach the thread's
# start. Java's frames are those that jstack sees.

import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from real_programs import children
from test_programs import answers, free_port, needs
from test_unwind import AS_POSTGRES, POSTGRES, postgres_dir  # noqa: F401 (a fixture)

COMPLETE = 0.99


@contextlib.contextmanager
def running(*command, end=signal.SIGKILL, **more):
    """The command, until a signal ends it, and then all of its process group."""
    more = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL, **more}
    with subprocess.Popen([str(word) for word in command], start_new_session=True, **more) as process:
        try:
            yield process
        finally:
            process.send_signal(end)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(ready, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, 'it has ended'
        assert time.monotonic() < deadline, 'it does not get there'
        time.sleep(0.05)


def snapshot(profd, pid):
    """The threads, each with its frames and what its stack lacks."""
    result = subprocess.run([profd, 'dump', '--json', str(pid)], capture_output=True, text=True, timeout=300, check=False)
    if f'no process {pid}' in result.stderr or f'process {pid} has ended' in result.stderr: # a server's helper that had to end
        return []
    assert result.returncode == 0, result.stderr
    shot = json.loads(result.stdout)
    stacks = {stack['id']: stack for stack in shot['stacks']}
    for thread in shot['threads']:
        thread['frames'] = stacks[thread['stack']]['frames']
        thread['functions'] = [frame['function'] for frame in thread['frames']]
        thread['partial'] = stacks[thread['stack']].get('partial')
    return shot['threads']


def at_rest(profd, process, *more_pids, when=lambda threads: True):
    """The threads of these processes, when none of them is about to do something, and they are as they should be by then."""
    threads = []

    def are_waiting():
        threads[:] = [thread for pid in [process.pid, *more_pids] for thread in snapshot(profd, pid)]
        return not any(thread['state'] in ('running', 'runnable') for thread in threads) and when(threads)

    wait_for(are_waiting, process)
    return threads


def comms(pid):
    names = []
    for path in glob.glob(f'/proc/{pid}/task/*/comm'):
        with contextlib.suppress(OSError), open(path, encoding='utf-8') as file:
            names.append(file.read().strip())
    return names


def are_complete(threads, at_least):
    partial = [(thread['name'], thread['partial'], thread['functions']) for thread in threads if thread['partial']]
    whole = len(threads) - len(partial)
    print(f'{whole} of {len(threads)} threads ({whole / len(threads):.2%}) are complete')  # pytest -s
    assert len(threads) >= at_least, [thread['name'] for thread in threads]
    assert whole >= COMPLETE * len(threads), partial
    return True


@needs('redis-server')
def test_redis(profd, tmp_path):
    path = str(tmp_path / 'redis.sock')
    with running('redis-server', '--port', '0', '--unixsocket', path, '--save', '', '--dir', tmp_path, '--io-threads', '4') as server:
        wait_for(lambda: answers(path), server)
        threads = at_rest(profd, server)
        assert sum(thread['name'].startswith('io_thd_') for thread in threads) == 3
        assert are_complete(threads, 7)


@needs('nginx')
def test_nginx(profd, tmp_path):
    port = free_port()
    os.chmod(tmp_path, 0o755)
    paths = '\n'.join(f'{name}_temp_path {tmp_path};' for name in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
    conf = tmp_path / 'nginx.conf'
    conf.write_text(f'''
        daemon off; worker_processes 2; user root; pid {tmp_path}/pid; error_log {tmp_path}/error.log;
        thread_pool readers threads=8; events {{ worker_connections 64; }}
        http {{ access_log off; aio threads=readers; {paths}
                server {{ listen 127.0.0.1:{port}; root {tmp_path}; }} }}''')
    with running('nginx', '-c', conf, '-e', tmp_path / 'error.log') as server:
        wait_for(lambda: answers(('127.0.0.1', port), socket.AF_INET), server)
        wait_for(lambda: [len(comms(child)) for child in children(server.pid)] == [9, 9], server)
        threads = at_rest(profd, server, *children(server.pid))
        assert are_complete(threads, 19)


def test_postgres(profd, postgres_dir): # noqa: F811
    """Sessions that sleep, that wait for a lock, that wait for their client."""
    data = postgres_dir + '/data'
    subprocess.run([POSTGRES + '/initdb', '-D', data, '-A', 'trust', '-N'], check=True, stdout=subprocess.DEVNULL, timeout=300, **AS_POSTGRES)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(POSTGRES + '/postgres', '-D', data, '-k', postgres_dir, '-c', 'listen_addresses=',
                                             end=signal.SIGQUIT, **AS_POSTGRES))
        wait_for(lambda: subprocess.run([POSTGRES + '/pg_isready', '-q', '-h', postgres_dir], timeout=300, check=False).returncode == 0, server)
        psql = [POSTGRES + '/psql', '-X', '-q', '-A', '-t', '-h', postgres_dir, '-U', 'postgres', 'postgres']

        def ask(query):
            return subprocess.run([*psql, '-c', query], stdout=subprocess.PIPE, text=True, timeout=300, check=True, **AS_POSTGRES).stdout.strip()

        ask('create table t(i int); insert into t values (1)')
        for query in [*['select pg_sleep(1000)'] * 3, 'begin; lock table t; select pg_sleep(1000)']:
            stack.enter_context(running(*psql, '-c', query, **AS_POSTGRES))
        wait_for(lambda: ask("select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == '4', server)
        for query in ['select * from t', 'update t set i = 2', 'truncate t']:
            stack.enter_context(running(*psql, '-c', query, **AS_POSTGRES))
        wait_for(lambda: ask("select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == '3', server)
        threads = at_rest(profd, server, *children(server.pid), when=lambda threads: all(
            sum(function in thread['functions'] for thread in threads) == count for function, count in (('pg_sleep', 4), ('ProcSleep', 3))))
        assert are_complete(threads, 12)


NODE = '''
const { Worker, isMainThread } = require('worker_threads'), fs = require('fs'), dns = require('dns'), crypto = require('crypto');
if (isMainThread) {
    const workers = [0, 1, 2, 3].map(kind => new Worker(__filename, { argv: [String(kind)] }));
    let ready = 0;
    for (const worker of workers) worker.on('message', () => { if (++ready == 4) console.log('ready'); });
    setInterval(() => {}, 1e6);
} else {
    const { parentPort } = require('worker_threads'), kind = Number(process.argv[2]);
    const deep = n => n > 0 ? deep(n - 1) : wait();
    const wait = () => {
        parentPort.postMessage('ready');
        if (kind == 0) setInterval(() => {}, 1e6);
        else if (kind == 1) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
        else if (kind == 2) require('child_process').execFileSync('sleep', ['1000']);
        else fs.readSync(fs.openSync(process.env.FIFO, 'r'), Buffer.alloc(1));
    };
    for (let i = 0; i < 2e5; i++) Math.hypot(i, 2);
    deep(20);
}
'''


def reads_a_file(thread):
    return any('ReadSync' in name or name.startswith('node::fs::Read') for name in thread['functions'])


@needs('node')
def test_node(profd, tmp_path):
    """Workers that wait in their loop, in Atomics.wait, for a child, in a blocking read: the latter below JavaScript."""
    (tmp_path / 'workers.js').write_text(NODE)
    os.mkfifo(tmp_path / 'fifo')
    with running('node', tmp_path / 'workers.js', stdout=subprocess.PIPE, env=dict(os.environ, FIFO=str(tmp_path / 'fifo'))) as process:
        assert process.stdout.readline() == b'ready\n'
        with open(tmp_path / 'fifo', 'wb', buffering=0):  # opened only when the reader is there
            wait_for(lambda: children(process.pid) or all_children(process.pid), process)
            # Each said that it is ready before it waits.
            threads = at_rest(profd, process, when=lambda threads: sum(map(reads_a_file, threads)) == 1)
            assert are_complete(threads, 11)


def all_children(pid):
    """Those of all of its threads."""
    found = []
    for path in glob.glob(f'/proc/{pid}/task/*/children'):
        with contextlib.suppress(OSError), open(path, encoding='ascii') as file:
            found += file.read().split()
    return found


PYTHON = '''
import ctypes, os, queue, select, subprocess, threading, time
libc = ctypes.CDLL(None)
ends, lock, condition = os.pipe(), threading.Lock(), threading.Condition()
callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda a, b: libc.pause())
four = (ctypes.c_int * 4)(4, 3, 2, 1)
lock.acquire()
def start(name, function, *arguments):
    threading.Thread(target=function, args=arguments, name=name, daemon=True).start()
def in_condition():
    with condition:
        condition.wait()
for _ in range(3):
    start('ctypes-pause', libc.pause)
    start('ctypes-poll', libc.poll, None, 0, -1)
    start('ctypes-read', libc.read, ends[0], ctypes.create_string_buffer(1), 1)
    start('ctypes-sleep', libc.sleep, 100000)
    start('ctypes-callback', libc.qsort, four, 4, 4, callback)
    start('sleep', time.sleep, 100000)
    start('lock', lock.acquire)
    start('condition', in_condition)
    start('queue', queue.Queue().get)
    start('select', select.select, [ends[0]], [], [])
    start('read', os.read, ends[0], 1)
    start('child', subprocess.run, ['sleep', '1000'])
print('ready', flush=True)
time.sleep(100000)
'''


@needs('/usr/bin/python3')
def test_python(profd):
    """Threads that wait in every way, some below libffi: also in what it called back."""
    with running('/usr/bin/python3', '-c', PYTHON, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b'ready\n'

        def are_there(threads):
            states = [thread['state'] for thread in threads]
            return len(threads) >= 37 and states.count('pause') == 6 and states.count('wait child') == 3 and states.count('sleep') == 7

        threads = at_rest(profd, process, when=are_there)
        assert are_complete(threads, 37)
        paused = [thread['functions'] for thread in threads if thread['state'] == 'pause']
        assert sum('msort_with_tmp' in ' '.join(functions) or 'qsort' in ' '.join(functions) for functions in paused) == 3
        for functions in paused: # each call by libffi is three functions of libffi's
            foreign = [name for name in functions if name.startswith('libffi') or name.startswith('ffi_')]
            assert len(foreign) == (8 if any('sort' in name for name in functions) else 3), functions


@needs('mariadbd')
def test_mariadb(profd):
    if os.getuid() != 0:
        pytest.skip('a server as another user: needs root')
    directory = tempfile.mkdtemp(prefix='profd-mariadb-', dir='/tmp')
    user, path = pwd.getpwnam('nobody'), directory + '/socket'
    os.chown(directory, user.pw_uid, user.pw_gid)
    try:
        with running('mariadbd', '--no-defaults', '--datadir=' + directory, '--socket=' + path, '--skip-networking', '--skip-grant-tables',
                     '--thread-handling=pool-of-threads', user='nobody', group=user.pw_gid, extra_groups=[], cwd=directory) as server:
            wait_for(lambda: answers(path), server)
            assert are_complete(at_rest(profd, server), 8)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


# ---- Java ------------------------------------------------------------------------------------------------------------

JAVA = '''
import java.io.*; import java.net.*; import java.nio.channels.*; import java.util.*; import java.util.concurrent.*; import java.util.concurrent.locks.*;

public class Waits {
    interface Way { void go() throws Exception; }
    static final List<Object> kept = Collections.synchronizedList(new ArrayList<>());
    static final CountDownLatch begun = new CountDownLatch(44);
    static int quiet;

    static void descend(int n, Way way) throws Exception {
        if (n > 0) descend(n - 1, way); else way.go();
    }
    static void start(String name, Way way) {
        for (int i = 0; i < 4; i++) {
            Thread thread = new Thread(() -> {
                try { descend(12, () -> { begun.countDown(); way.go(); }); } catch (Exception e) { System.out.println(name + " " + e); }
            }, name);
            thread.setDaemon(true);
            thread.start();
        }
    }
    public static void main(String[] arguments) throws Exception {
        for (int i = 0; i < 20000; i++) descend(12, () -> quiet++); // the compilers come
        ServerSocket server = new ServerSocket(0);
        Object monitor = new Object();
        ReentrantLock lock = new ReentrantLock();
        lock.lock();
        start("selector", () -> Selector.open().select());
        start("socket-read", () -> {
            Socket socket = new Socket("127.0.0.1", server.getLocalPort());
            kept.add(socket);
            socket.getInputStream().read();
        });
        start("accept", () -> new ServerSocket(0).accept());
        start("channel", () -> { ServerSocketChannel channel = ServerSocketChannel.open(); channel.bind(null); channel.accept(); });
        start("file", () -> new FileInputStream(arguments[0]).read());
        start("child", () -> new ProcessBuilder("sleep", "1000").start().waitFor());
        start("monitor", () -> { synchronized (monitor) { monitor.wait(); } });
        start("lock", () -> lock.lock());
        start("queue", () -> new LinkedBlockingQueue<Object>().take());
        start("sleep", () -> Thread.sleep(1000000));
        start("datagram", () -> new DatagramSocket(0).receive(new DatagramPacket(new byte[9], 9)));
        begun.await();
        System.out.println("ready");
        Thread.sleep(1000000);
    }
}
'''


def java_frames(pid, leaf=''):
    """By jstack: the Java frames of each thread that has some, of those whose first line fits the pattern."""
    text = subprocess.run(['jstack', str(pid)], stdout=subprocess.PIPE, text=True, timeout=300, check=True).stdout
    found = {}
    for block in text.split('\n\n'):
        tid = re.search(r'nid=(0x[0-9a-f]+|\d+) ', block)
        frames = re.findall(r'^\tat (?:[\w.]+@?[\w.-]*/)?([^\s(]+)\(', block, re.M)
        if tid and frames and re.search(leaf, block.split('\tat ')[1].strip().split('\n')[0]):
            found[int(tid[1], 0)] = frames
    return found


def own_frames(thread):
    """What profd shows of Java: between HotSpot's functions, without its stub."""
    names = []
    for frame in thread['frames']:
        if not frame.get('module', '').startswith('/') and 'StubRoutines' not in frame['function']:
            names.append(frame['function'].split('(')[0].split(' ')[-1])
    return names


def are_the_same(ours, theirs, inlined):
    """Frame by frame; the interpreter's have no names, and functions that are a part of their caller's code have no frame."""
    if not inlined:
        return len(ours) == len(theirs) and all(our in ('Interpreter', their) for our, their in zip(ours, theirs))
    rest = iter(theirs)
    return len(ours) <= len(theirs) and all(any(our in ('Interpreter', their) for their in rest) for our in ours)


@needs('java', 'javac', 'jstack', 'jcmd')
@pytest.mark.parametrize('options', [[], ['-Xint'], ['-XX:TieredStopAtLevel=1', '-XX:-Inline'], ['-Xcomp', '-XX:-TieredCompilation', '-XX:-Inline']],
                         ids=['default', 'interpreter', 'C1', 'C2'])
def test_java(profd, tmp_path, options):
    (tmp_path / 'Waits.java').write_text(JAVA)
    subprocess.run(['javac', '-d', tmp_path, tmp_path / 'Waits.java'], check=True, timeout=300)
    os.mkfifo(tmp_path / 'fifo')
    fifo = os.open(tmp_path / 'fifo', os.O_RDWR)
    try:
        with running('java', *options, '-cp', tmp_path, 'Waits', tmp_path / 'fifo', stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b'ready\n'

            wait_for(lambda: len(java_frames(process.pid, r'Native Method\)$')) >= 46 and
                     java_frames(process.pid) == java_frames(process.pid), process)
            subprocess.run(['jcmd', str(process.pid), 'Compiler.perfmap'], stdout=subprocess.DEVNULL, timeout=300, check=True)
            truth, threads = java_frames(process.pid), at_rest(profd, process)
            assert are_complete(threads, 44)
            wrong = [(thread['name'], own_frames(thread), truth[thread['tid']]) for thread in threads if thread['tid'] in truth and
                     not are_the_same(own_frames(thread), truth[thread['tid']], not options)]
            known = sum(thread['tid'] in truth for thread in threads)
            print(f'{known - len(wrong)} of {known} threads have the Java frames that jstack sees')
            assert known >= 44 and not wrong, wrong[:2]
    finally:
        os.close(fifo)
        for path in glob.glob(f'/tmp/perf-{process.pid}.map'):
            os.unlink(path)
