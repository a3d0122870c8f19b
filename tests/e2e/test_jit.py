# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_jit.py: code made at run time: names by /tmp/perf-PID.map and by jitdump files, lines by the latter, and stacks that are complete
# through it by frame pointers; in profiles and in traces. node and Java.

import collections
import glob
import os
import signal
import subprocess

import pytest

import pprof_reader
import trace_readers
from test_programs import needs
from waiting import wait_for_cpu_time

FIBONACCI = '''
const end = process.cpuUsage().user + 1.5e6;
function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
console.log(process.pid);
do fibonacci(20); while (process.cpuUsage().user < end);
'''

# node writes its jitdump file through a buffer, whose end dies with it. This one goes on making code, so that the names of the code
# that runs are always in the file by the time of its death.
FIBONACCI_FOREVER = '''
function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
console.log(process.pid);
for (let i = 0; ; i++) {
    fibonacci(20);
    if (i % 20 == 0) new Function(`return ${i}`)();
}
'''

# node's own functions: it writes rubbish for the names of some other files.
RESOLVE = '''
const path = require('path'), end = process.cpuUsage().user + 1.5e6;
while (process.cpuUsage().user < end) for (let i = 0; i < 1000; i++) path.resolve('a/./b/../c', 'x//y/' + i);
'''

# A thread that is made, others that are woken, and samples: each with functions of this script in its stack.
TRACED = '''
const fs = require('fs'), { Worker } = require('worker_threads');
function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
function makeWorker() { return new Worker('setTimeout(() => {}, 100)', { eval: true }); }
function askFiles(n, then) { fs.stat('/', () => n > 0 ? askFiles(n - 1, then) : then()); }
function burn() { const end = process.cpuUsage().user + 0.6e6; do fibonacci(20); while (process.cpuUsage().user < end); }
console.log(process.pid);
makeWorker();
askFiles(100, burn);
'''

JAVA = '''
import java.nio.file.*;

public class Load {
    static int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
    static long usedMilliseconds() throws Exception {
        return Long.parseLong(Files.readString(Path.of("/proc/thread-self/schedstat")).split(" ")[0]) / 1000000;
    }
    public static void main(String[] arguments) throws Exception {
        long end = usedMilliseconds() + Long.parseLong(arguments[0]);
        System.out.println(ProcessHandle.current().pid());
        while (usedMilliseconds() < end) for (int i = 0; i < 10; i++) fibonacci(25);
    }
}
'''


def shares(profile, name):
    """Of all samples, those with a frame of that name; and those with a frame that has none."""
    total = sum(sample.values[0] for sample in profile.samples)
    named = sum(sample.values[0] for sample in profile.samples if any(name in frame for frame in sample.stack))
    bare = sum(sample.values[0] for sample in profile.samples if any(frame.startswith('0x') for frame in sample.stack))
    print(f'{total} samples: {named / total:.1%} with {name}, {bare / total:.1%} with nameless frames, '
          f'{profile.complete():.2%} complete')
    return named / total, bare / total


def check(profile, name, at_least=0.7):
    named, bare = shares(profile, name)
    assert named >= at_least and bare <= 0.02
    assert profile.complete() >= 0.98, profile.comments


def remove_maps(pid):
    for path in glob.glob(f'/tmp/perf-{int(pid)}.map'):
        os.unlink(path)


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / 'load.js'
        path.write_text(text)
        return str(path)
    return write


# ---- node ------------------------------------------------------------------------------------------------------------


@needs('node')
def test_node_without_names(run, script):
    """That the other tests show anything: nobody says what the code is. Its stacks are as complete."""
    profile = run('node', script(FIBONACCI), rate=250).profile
    named, bare = shares(profile, 'fibonacci')
    assert named == 0 and bare > 0.7
    assert profile.complete() >= 0.98, profile.comments


@needs('node')
def test_node_perf_map(run, script, tmp_path):
    done = run('node', '--perf-basic-prof', script(FIBONACCI), rate=250, cwd=tmp_path)
    remove_maps(done.stdout)
    check(done.profile, 'fibonacci')


@needs('node')
@pytest.mark.parametrize('more', [[], ['--interpreted-frames-native-stack'], ['--perf-prof-unwinding-info'], ['--no-opt']],
                         ids=lambda more: more[0] if more else 'plain')
def test_node_jitdump(run, script, tmp_path, more):
    """The file is in the program's own directory; nothing but its mappings tells."""
    profile = run('node', '--perf-prof', *more, script(FIBONACCI), rate=250, cwd=tmp_path).profile
    assert glob.glob(f'{tmp_path}/jit-*.dump')
    check(profile, 'fibonacci')


@needs('node')
def test_node_jitdump_lines(run, script, tmp_path):
    profile = run('node', '--perf-prof', '--no-turbo-inlining', script(RESOLVE), rate=250, cwd=tmp_path).profile
    check(profile, 'resolve node:path:', at_least=0.4)
    lines = {line for name, file, line in profile.lines if 'resolve node:path:' in name and file == 'node:path'}
    print(f'lines of resolve: {sorted(lines)}')
    assert len(lines - {0}) >= 3, profile.lines
    assert all(file == '' or file.isprintable() for _, file, _ in profile.lines)


@needs('node')
@pytest.mark.skipif(os.getuid() != 0, reason='the very file that is mapped: needs rights')
def test_node_jitdump_that_is_deleted_at_once(run, script, tmp_path):
    profile = run('node', '--perf-prof', '--perf-prof-delete-file', script(FIBONACCI), rate=250, cwd=tmp_path).profile
    assert not glob.glob(f'{tmp_path}/jit-*.dump')
    check(profile, 'fibonacci')


@needs('node')
@pytest.mark.skipif(os.getuid() != 0, reason='chroot needs root')
def test_node_jitdump_in_another_root(profd, script, tmp_path):
    """In a mount namespace where the file's path is another one; killed, so that there is no /proc/PID/root any more."""
    if subprocess.run(['unshare', '-m', 'true'], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip('no mount namespaces here')
    hidden = tmp_path / 'hidden'
    hidden.mkdir()
    output = str(tmp_path / 'out.pb.gz')
    command = f'mount -t tmpfs none {hidden} && cd {hidden} && exec node --perf-prof --always-sparkplug {script(FIBONACCI_FOREVER)}'
    process = subprocess.Popen([profd, 'run', '--rate', '250', '-o', output, '--', 'unshare', '-m', 'sh', '-c', command],
                               stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    wait_for_cpu_time(1.8, pid)
    os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGKILL
    assert not os.listdir(hidden)
    check(pprof_reader.read(output), 'fibonacci')


def cpu_ns(samples):
    return sum(sample.args['cpu_ns'] for sample in samples)


@needs('node')
@pytest.mark.parametrize('option, extension', [('--perf-basic-prof', 'trace.json'), ('--perf-basic-prof', 'perfetto-trace'),
                                               ('--perf-prof', 'perfetto-trace')])
def test_node_in_traces(profd, script, tmp_path, option, extension):
    """The stacks of samples, of who made a thread, and of who woke one. A jitdump file is written through a buffer: its names come at the end."""
    path = tmp_path / f'x.{extension}'
    done = subprocess.run([profd, 'run', '--rate', '250', '--trace', path, '--wakers', '--', 'node', option, '--interpreted-frames-native-stack',
                           script(TRACED)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    remove_maps(done.stdout)
    trace = (trace_readers.perfetto if extension.startswith('perfetto') else trace_readers.chrome)(path)
    samples = [instant for track in trace.tracks for instant in track.instants if instant.name == 'on CPU']
    named = [sample for sample in samples if any('fibonacci' in frame for frame in sample.stack)]
    bare = [sample for sample in samples if any(frame.startswith('0x') for frame in sample.stack)]
    print(f'{len(samples)} samples, {len(named)} with the function, {len(bare)} with a nameless frame')
    assert cpu_ns(named) > 0.5 * cpu_ns(samples) and len(bare) < 0.02 * len(samples), bare[:3]
    lives = [track.named('alive')[0] for track in trace.tracks]
    assert any('makeWorker' in frame for life in lives for frame in life.stack)
    woken = [wait for track in trace.tracks for wait in track.named('cond wait') if any('askFiles' in frame for frame in wait.end_stack)]
    assert len(woken) > 10


# ---- More than one process, and more than one moment -----------------------------------------------------------------------


def in_trace(path):
    """Of each process, how long each function was on top: CPU time, for there are few samples of a thread that gets its time in large pieces."""
    trace, leaves = trace_readers.chrome(path), {}
    for track in trace.tracks:
        found = leaves.setdefault(track.pid, collections.Counter())
        for sample in track.instants:
            if sample.name == 'on CPU':
                found[sample.stack[0]] += sample.args['cpu_ns']
    return leaves


def share(leaves, name):
    return leaves[name] / max(sum(leaves.values()), 1)


def test_a_forked_child_names_its_own_code(profd, helper, tmp_path):
    """At the address where its parent has other code."""
    path, output = tmp_path / 'x.trace.json', tmp_path / 'x.pb.gz'
    done = subprocess.run([profd, 'run', '--rate', '250', '--trace', path, '-o', output, '--', helper('target_jit'), 'fork'],
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    pids = {name: int(pid) for name, pid in map(str.split, done.stdout.splitlines())}
    parent, child = pids['parent_code'], pids['child_code']
    remove_maps(parent)
    remove_maps(child)
    leaves = in_trace(path)
    print({pid: (share(names, 'parent_code'), share(names, 'child_code')) for pid, names in leaves.items()})
    assert share(leaves[parent], 'parent_code') > 0.5 and 'child_code' not in leaves[parent]
    assert share(leaves[child], 'child_code') > 0.5 and 'parent_code' not in leaves[child]
    for sample in pprof_reader.read(str(output)).samples:
        other = 'child_code' if sample.labels['process_id'] == parent else 'parent_code'
        assert other not in sample.stack, sample


def test_a_jitdump_file_that_comes_late(profd, helper, tmp_path):
    """When code of it was asked for before."""
    path = tmp_path / 'x.trace.json'
    done = subprocess.run([profd, 'run', '--rate', '250', '--trace', path, '--', helper('target_jit'), 'late'], cwd=tmp_path,
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    leaves, = in_trace(path).values()
    assert share(leaves, 'early_code') > 0.2 and share(leaves, 'late_code') > 0.3, leaves


# ---- Java ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='session')
def classes(tmp_path_factory):
    directory = tmp_path_factory.mktemp('classes')
    (directory / 'Load.java').write_text(JAVA)
    subprocess.run(['javac', '-d', str(directory), str(directory / 'Load.java')], check=True, timeout=300)
    return str(directory)


def java(classes, milliseconds, *options, preserve='-XX:+PreserveFramePointer'):
    return ['java', preserve, '-XX:+UnlockDiagnosticVMOptions', *options, '-cp', classes, 'Load', str(milliseconds)]


@needs('java', 'javac')
@pytest.mark.parametrize('mode, name', [([], 'Load.fibonacci'), (['-XX:TieredStopAtLevel=1'], 'Load.fibonacci'), (['-Xint'], 'Interpreter')],
                         ids=['compiled', 'C1', 'interpreted'])
def test_java_perf_map(run, classes, mode, name):
    """Calls from interpreted functions leave return addresses that no call is before."""
    done = run(*java(classes, 1500, '-XX:+DumpPerfMapAtExit', *mode), rate=250)
    assert done.status == 0, done.stderr
    remove_maps(done.stdout)
    check(done.profile, name, at_least=0.5)
    assert done.profile.share('JavaMain') > 0.5


@needs('java', 'javac')
@pytest.mark.parametrize('options, environment, skips', [
    (['-XX:-PreserveFramePointer'], '', True), (['-XX:+PreserveFramePointer'], '', False), (['-showversion'], '-XX:+PreserveFramePointer', False),
    (['-XX:-PreserveFramePointer'], '-XX:+PreserveFramePointer', True)], ids=['without', 'with', 'environment', 'overruled'])
def test_java_without_frame_pointers(run, classes, options, environment, skips):
    """What passes over callers does not count as complete, and says what to do."""
    done = run(*java(classes, 1200, preserve=options[0]), rate=250, env={'JAVA_TOOL_OPTIONS': environment} if environment else {})
    assert done.status == 0, done.stderr
    truncated = next(comment for comment in done.profile.comments if comment.startswith('truncated stacks: '))
    assert ('run java with -XX:+PreserveFramePointer' in truncated) == skips, truncated
    assert (float(truncated.split()[2].rstrip('%:')) > 50) == skips, truncated


@needs('java', 'javac', 'jcmd')
def test_java_perf_map_by_jcmd(profd, classes, tmp_path):
    """Asked for while it runs; the process is killed."""
    output = str(tmp_path / 'out.pb.gz')
    process = subprocess.Popen([profd, 'run', '--rate', '250', '-o', output, '--', *java(classes, 100000)],
                               stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    wait_for_cpu_time(2, pid)
    asked = subprocess.run(['jcmd', str(pid), 'Compiler.perfmap'], stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGKILL
    if not os.path.exists(f'/tmp/perf-{pid}.map'):
        pytest.skip(f'this Java writes no map: {asked.stdout}')
    remove_maps(pid)
    check(pprof_reader.read(output), 'Load.fibonacci', at_least=0.5)
