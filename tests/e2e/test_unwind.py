# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_unwind.py: the unwinder against libunwind, libdw and the truth, a few of oracle_programs.py's programs; and the stacks of
# programs under load that start their processes and threads in ways of their own: PostgreSQL, node.

import os
import pwd
import shutil
import subprocess
import tempfile

import pytest

import oracle_programs
import pprof_reader
from test_programs import COMPLETE, Server, is_complete, needs, with_tables

AGREEMENT = 0.999


def check(build_dir, options, command, least_pcs):
    result = oracle_programs.oracle(build_dir, options, command)
    assert result.values['pcs'] >= least_pcs, result.values
    for differences in (['libunwind_differs'], ['libdw_differs'], ['untrue']):
        assert result.agreement(*differences) >= AGREEMENT, (differences, result.values, result.kinds)
    return result


@needs('sqlite3')
def test_true_stacks(build_dir):
    """Single steps from the entry point on: each stack is what the calls seen before make it."""
    result = check(build_dir, ['-e', '-n', '300000', '-v', '1'], ['sqlite3', ':memory:', oracle_programs.SQL], 20000)
    assert result.values['truth'] == 1 and result.values['steps'] == 300000
    assert not any(kind.startswith('ours') and 'no CFI' not in kind for kind in result.kinds), result.kinds
    # Not blind: libdw loses rbx where it is not saved, and one function that every program runs needs it.
    assert any(kind.startswith('libdw stops above ld-linux') and 'ours is true' in kind for kind in result.kinds), result.kinds


@needs('sqlite3')
def test_every_instruction(build_dir):
    result = check(build_dir, ['-b', '30'], ['sqlite3', ':memory:', oracle_programs.SQL], 50000)
    assert result.values['ended'] == 0, 'the program runs as if nobody looked on'
    assert result.values['incomplete'] / result.values['walks'] < 0.005, result.values


def test_exceptions_and_threads(build_dir, helper):
    result = oracle_programs.oracle(build_dir, ['-b', '30'], [helper('target_cpp'), '20'])
    assert result.values['ended'] == 0 and result.values['pcs'] >= 15000
    for name in ('libunwind', 'libdw'):
        # Where an exception is on its way to its landing pad, they go on to frames that are none (docs/unwinding.md).
        beyond = sum(count for kind, (count, _) in result.kinds.items() if kind.startswith(name + ' goes on above') and 'libgcc_s' in kind)
        assert (result.values[name + '_differs'] - beyond) / result.values['walks'] <= 1 - AGREEMENT, (result.values, result.kinds)


def test_assembly_without_cfi(build_dir):
    """GMP's loops push registers, FP among them, and have no CFI: where our walk goes on, it is right."""
    result = oracle_programs.oracle(build_dir, ['-e', '-n', '250000', '-v', '1'], oracle_programs.FACTOR)
    if 'leaf of libgmp' not in ''.join(result.kinds):
        pytest.skip('factor does not use GMP here')
    assert not any(kind.startswith(('ours differs', 'ours goes on')) for kind in result.kinds), result.kinds
    assert result.agreement('untrue') >= 0.99, (result.values, result.kinds)


def test_library_entry_point(build_dir, tmp_path):
    """Some linkers give a shared library an entry point: its first function. That is nobody's outermost frame."""
    (tmp_path / 'bare.s').write_text('''
.globl bare
bare:
	push %rbp
	mov %rsp, %rbp
	call getpid@plt
	pop %rbp
	ret
	.cfi_startproc
other:
	ret
	.cfi_endproc
.section .note.GNU-stack,"",@progbits
''')
    (tmp_path / 'main.c').write_text('int bare(void); int main(void) { return bare() < 0; }')
    subprocess.run('gcc -shared -o libbare.so -Wl,-e,bare bare.s -Wl,--no-as-needed -lc && gcc -O2 -o program main.c -L. -lbare -Wl,-rpath,$PWD', shell=True,
                   check=True, cwd=tmp_path, timeout=60)
    result = oracle_programs.oracle(build_dir, ['-e', '-n', '100000'], [str(tmp_path / 'program')])
    assert any('libbare.so' in kind for kind in result.kinds), result.kinds  # libdw has no CFI there
    assert not any(kind.startswith('ours') and 'libbare.so' in kind and 'leaf' not in kind for kind in result.kinds), result.kinds


def test_exceptions_in_flight(build_dir, tmp_path):
    """libgcc's unwinder overwrites its own return address before it jumps to a landing pad. Then the stack ends, and is not made up."""
    source = tmp_path / 'thrower.cpp'
    source.write_text('''
struct Cleaner { int *at; ~Cleaner() { ++*at; } };
__attribute__((noipa)) int leaf(int x) { if (x > 0) throw x; return 1; }
__attribute__((noipa)) int middle(int x, int *at) { Cleaner cleaner{at}; return leaf(x) + 1; }
__attribute__((noipa)) int outer(int x) {
    int cleaned = 0, sum = 0;
    for (int i = 0; i < 2; i++)
        try { sum += middle(x, &cleaned); } catch (int y) { sum += y; }
    return sum + cleaned;
}
int main(int argc, char **) { return outer(argc) != 4; }
''')
    program = str(tmp_path / 'thrower')
    subprocess.run(['g++', '-O2', '-o', program, str(source)], check=True, timeout=60)
    result = oracle_programs.oracle(build_dir, ['-e', '-n', '600000'], [program])
    assert result.values['steps'] < 600000, 'it ran to its end'
    against = [kind for kind in result.kinds if kind.startswith('ours') and 'against the truth' in kind]
    assert any('libgcc' in kind for kind in against), 'an exception was on its way'
    assert all(kind.startswith('ours stops') for kind in against), against


def test_oracle_sees_mistakes(build_dir, tmp_path):
    """Code whose CFI lies: by the truth, all three are wrong, and the oracle says so."""
    source = tmp_path / 'liar.s'
    source.write_text('''
.globl main
main:
	.cfi_startproc
	sub $24, %rsp
	.cfi_adjust_cfa_offset 32
	nop
	nop
	add $24, %rsp
	.cfi_adjust_cfa_offset -32
	xor %eax, %eax
	ret
	.cfi_endproc
.section .note.GNU-stack,"",@progbits
''')
    program = str(tmp_path / 'liar')
    subprocess.run(['gcc', '-o', program, str(source)], check=True, timeout=60)
    result = oracle_programs.oracle(build_dir, ['-e', '-n', '100000'], [program])
    assert 3 <= result.values['untrue'] < 40, result.values
    assert any(kind.startswith('ours') and 'leaf of liar, against the truth' in kind for kind in result.kinds), result.kinds


# ---- Complete stacks under load --------------------------------------------------------------------------------------


def is_jit(stack):
    """Code that no file has is named by its address."""
    return any(name.startswith('0x') for name in stack)


def assert_complete_outside_jit(profile):
    """The stacks in which no JIT compiler's code is seen. They may be a few dozen only: one of them may be cut."""
    stacks = [sample.stack for sample in profile.samples if not is_jit(sample.stack)]
    cut = [stack for stack in stacks if not pprof_reader.is_whole(stack)]
    assert len(cut) <= max(1, (1 - COMPLETE) * len(stacks)), (len(stacks), cut)


@needs('node')
def test_node(run, tmp_path):
    script = tmp_path / 'load.js'
    script.write_text('''
const z = require('zlib'), c = require('crypto'), end = process.cpuUsage().user + 2e6;
const fib = (n) => n < 2 ? n : fib(n - 1) + fib(n - 2);
while (process.cpuUsage().user < end) {
  JSON.parse(JSON.stringify(Array.from({length: 500}, (_, i) => ({i, s: 'x'.repeat(i % 9)}))));
  z.gunzipSync(z.gzipSync('profd'.repeat(9999))); c.createHash('sha256').update('x'.repeat(9999)).digest();
  fib(18); 'a1b2'.repeat(99).replace(/[0-9]+/g, m => m + '!'); [...Array(999).keys()].sort((a, b) => b - a);
}
console.log('done');''')

    def measure():
        done = run('node', str(script), rate=250)
        assert done.status == 0 and done.stdout == 'done\n'
        return done.profile

    profile = with_tables(measure)
    jit = sum(sample.values[0] for sample in profile.samples if is_jit(sample.stack))
    assert jit >= 50, 'there is JIT code to walk through'
    print(f'{profile.complete():.2%} of all stacks are complete, {jit} have JIT code in them')
    assert profile.complete() >= 0.98, (profile.complete(), profile.comments)
    assert_complete_outside_jit(profile)


POSTGRES = next((path for path in ('/usr/lib/postgresql/15/bin',) if os.path.exists(path + '/postgres')), None)


@pytest.fixture
def postgres_dir():
    """A database directory of the user postgres, who may not read pytest's own."""
    if not POSTGRES:
        pytest.skip('not installed: postgresql')
    if os.getuid() != 0:
        pytest.skip('PostgreSQL runs as a user of its own: needs root')
    directory = tempfile.mkdtemp(prefix='profd-postgres-', dir='/tmp')
    user = pwd.getpwnam('postgres')
    os.chown(directory, user.pw_uid, user.pw_gid)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


AS_POSTGRES = {'user': 'postgres', 'group': 'postgres', 'extra_groups': [], 'cwd': '/'}


@pytest.mark.figures
def test_postgres(profd, agent, public, postgres_dir):
    """The postmaster forks without exec; each session is a process of its own."""
    data, environment = postgres_dir + '/data', dict(os.environ, HOME=postgres_dir, PROFD_AGENT=public(agent))

    def run_tool(name, *arguments):
        subprocess.run([f'{POSTGRES}/{name}', *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=300, env=environment, **AS_POSTGRES)

    run_tool('initdb', '-D', data, '-A', 'trust', '-N')
    server = Server(public(profd), postgres_dir + '/out.pb.gz',
                    [POSTGRES + '/postgres', '-D', data, '-k', postgres_dir, '-c', 'listen_addresses=', '-c', 'fsync=off'],
                    env=environment, **AS_POSTGRES)
    server.wait_for(lambda: subprocess.run([POSTGRES + '/pg_isready', '-q', '-h', postgres_dir], timeout=30).returncode == 0)
    where = ['-h', postgres_dir, '-U', 'postgres', 'postgres']
    run_tool('pgbench', '-i', '-s', '2', *where)
    server.work(lambda: run_tool('pgbench', '-c', '4', '-T', '1', *where), 2)
    run_tool('pgbench', '-c', '2', '-T', '1', '-S', *where)
    profile = server.end()
    assert server.process.returncode == 0, server.stderr
    # Each session's end goes through sixty libraries' __do_global_dtors_aux, which has neither CFI nor, in these, a name.
    at_the_end = [sample for sample in profile.samples if len(sample.stack) == 1 and '.so' in sample.stack[0]]
    assert sum(sample.values[0] for sample in at_the_end) <= 0.03 * sum(sample.values[0] for sample in profile.samples), at_the_end[0].stack
    profile.samples = [sample for sample in profile.samples if sample not in at_the_end]
    assert is_complete(profile, 300)
    assert len({sample.labels.get('process_id') for sample in profile.samples}) >= 6, 'the sessions are targets of their own'
