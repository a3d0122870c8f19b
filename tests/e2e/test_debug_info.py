# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_debug_info.py: where names come from: the file itself, separate files, other root directories, what is there without debug info,
# the vDSO, PLTs. One program for all, whose function is no symbol that is exported. test_jit.py has code made at run time, test_debuginfod.py
# what is downloaded.

import os
import pathlib
import re
import shutil
import subprocess

import pytest

import pprof_reader

SOURCE = '''
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static inline __attribute__((always_inline)) unsigned mix_inlined(unsigned x)
{
	for (int i = 0; i < 1000; i++)
		x = (x ^ x >> 7) * 2654435761u;
	return x;
}

static __attribute__((noinline)) unsigned spin_for_the_test(unsigned x)
{
	return mix_inlined(x) + 1;
}

__attribute__((noinline, visibility("default"))) unsigned exported_spin(unsigned x)
{
	return spin_for_the_test(x) + 1;
}

static __attribute__((noinline)) void wait_for_the_test(void)
{
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	clock_t end = clock() + (argc > 1 ? atoi(argv[1]) : 400) * (CLOCKS_PER_SEC / 1000);
	unsigned x = (unsigned)argc;

	if (argc > 2)
		wait_for_the_test();
	while (clock() < end)
		for (int i = 0; i < 100; i++)
			x = exported_spin(x);
	return x == 42;
}
'''


def build_id(path):
    return re.search(r'Build ID: (\w+)', subprocess.run(['readelf', '-n', path], capture_output=True, text=True, check=True).stdout)[1]


def build_id_path(directory, path):
    name = build_id(path)
    return pathlib.Path(directory) / '.build-id' / name[:2] / f'{name[2:]}.debug'


def split_off(program, debug_file):
    """Leaves the program without symbols; what it loses is in debug_file."""
    debug_file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(['objcopy', '--only-keep-debug', program, debug_file], check=True)
    subprocess.run(['strip', program], check=True)


@pytest.fixture
def program(tmp_path):
    (tmp_path / 'spin.c').write_text(SOURCE)
    path = tmp_path / 'spin'
    subprocess.run(['gcc', '-O1', '-g', tmp_path / 'spin.c', '-o', path], check=True)
    return path


def share(profile, name):
    total = sum(sample.values[0] for sample in profile.samples)
    return sum(sample.values[0] for sample in profile.samples if name in sample.stack) / max(total, 1)


def expect_dwarf(profile):
    assert share(profile, 'spin_for_the_test') > 0.8, (profile.comments, profile.lines)
    assert share(profile, 'mix_inlined') > 0.8
    assert any(name == 'mix_inlined' and file.endswith('/spin.c') and line > 0 for name, file, line in profile.lines)


def expect_function_alone(profile, name='spin_for_the_test'):
    assert share(profile, name) > 0.8, (profile.comments, profile.lines)
    assert share(profile, 'mix_inlined') == 0


def expect_nothing(profile):
    assert share(profile, 'spin_for_the_test') == 0 and share(profile, 'mix_inlined') == 0


# ---- Files ---------------------------------------------------------------------------------------------------------------


def test_the_file_itself(run, program):
    expect_dwarf(run(program, rate=250).profile)


def test_nowhere(run, program):
    """That the other tests show anything."""
    subprocess.run(['strip', program], check=True)
    expect_nothing(run(program, rate=250).profile)


@pytest.mark.parametrize('place', ['beside', '.debug', 'below a directory'])
def test_debuglink(run, program, tmp_path, place):
    debug_file = {'beside': tmp_path / 'spin.debug', '.debug': tmp_path / '.debug/spin.debug',
                  'below a directory': pathlib.Path(f'{tmp_path}/given{tmp_path}/spin.debug')}[place]
    subprocess.run(['objcopy', '--remove-section=.note.gnu.build-id', program], check=True)
    split_off(program, debug_file)
    subprocess.run(['objcopy', f'--add-gnu-debuglink={debug_file}', program], check=True)
    (tmp_path / 'given').mkdir(exist_ok=True)
    expect_dwarf(run(program, rate=250, options=['--debug-dir', tmp_path / 'given']).profile)


def test_debug_dir(run, program, tmp_path):
    """Several directories; a relative one; the environment."""
    split_off(program, build_id_path(tmp_path / 'given', program))
    (tmp_path / 'other').mkdir()
    expect_nothing(run(program, rate=250).profile)
    expect_dwarf(run(program, rate=250, options=['--debug-dir', tmp_path / 'other', '--debug-dir', tmp_path / 'given']).profile)
    expect_dwarf(run(program, rate=250, options=['--debug-dir', 'given'], cwd=tmp_path).profile)
    expect_dwarf(run(program, rate=250, env={'PROFD_DEBUG_DIR': f'/nowhere:{tmp_path}/given'}).profile)


def test_debug_dir_of_the_private_collector(program, agent, profd, tmp_path):
    split_off(program, build_id_path(tmp_path / 'given', program))
    output = tmp_path / 'own.pb.gz'
    subprocess.run([program], check=True, cwd=tmp_path,
                   env={**os.environ, 'LD_PRELOAD': agent, 'PROFD_OUTPUT': str(output), 'PROFD_DEBUG_DIR': 'given', 'PROFD_RATE': '250',
                        'PROFD_COLLECTOR': profd})
    for _ in range(2400):
        if output.exists() and output.stat().st_size > 0:
            break
        subprocess.run(['sleep', '0.05'], check=True)
    # A relative name is of the directory that the program was started in.
    expect_dwarf(pprof_reader.read(str(output)))


def test_debug_dir_that_is_none(profd, program):
    result = subprocess.run([profd, 'run', '--debug-dir', '/no/such', '--', program], capture_output=True, text=True, check=False)
    assert result.returncode == 125 and "--debug-dir '/no/such': there is no such directory" in result.stderr


def test_debug_dir_of_dump_and_check(profd, program, tmp_path):
    split_off(program, build_id_path(tmp_path / 'given', program))
    process = subprocess.Popen([program, '0', 'wait'])
    try:
        while 'S (sleeping)' not in pathlib.Path(f'/proc/{process.pid}/status').read_text():
            pass
        for options, found in (([], False), (['--debug-dir', str(tmp_path / 'given')], True)):
            text = subprocess.run([profd, 'dump', *options, str(process.pid)], check=True, capture_output=True, text=True).stdout
            assert ('wait_for_the_test(' in text and '/spin.c:' in text) == found, text
            text = subprocess.run([profd, 'check', *options, program], check=False, capture_output=True, text=True).stdout
            assert ('in a separate file' in text) == found, text
    finally:
        process.kill()
        process.wait()


# ---- What there is without debug info ---------------------------------------------------------------------------------------


def test_symtab(run, program):
    subprocess.run(['strip', '--strip-debug', program], check=True)
    expect_function_alone(run(program, rate=250).profile)


def test_mini_debug_info(run, program, tmp_path):
    if not shutil.which('xz'):
        pytest.skip('xz is not installed')
    subprocess.run(['strip', '--strip-debug', '-o', tmp_path / 'mini', program], check=True)
    subprocess.run(['xz', tmp_path / 'mini'], check=True)
    subprocess.run(['strip', program], check=True)
    subprocess.run(['objcopy', '--add-section', f'.gnu_debugdata={tmp_path}/mini.xz', program], check=True)
    expect_function_alone(run(program, rate=250).profile)


def test_dynsym(run, program, tmp_path):
    subprocess.run(['gcc', '-O1', '-rdynamic', tmp_path / 'spin.c', '-o', program], check=True)
    subprocess.run(['strip', program], check=True)
    profile = run(program, rate=250).profile
    expect_function_alone(profile, 'exported_spin')
    assert share(profile, 'spin_for_the_test') == 0


def test_vdso(run, tmp_path):
    (tmp_path / 'now.c').write_text('#include <time.h>\nint main(void) { struct timespec t; clock_t end = clock() + CLOCKS_PER_SEC; '
                                    'while (clock() < end) for (int i = 0; i < 1000; i++) clock_gettime(CLOCK_MONOTONIC, &t); }')
    subprocess.run(['gcc', '-O1', tmp_path / 'now.c', '-o', tmp_path / 'now'], check=True)
    profile = run(tmp_path / 'now', rate=250).profile
    if not '[vdso]' in profile.mapping_files:
        pytest.skip('the kernel has no clock in its vDSO here')
    assert share(profile, '__vdso_clock_gettime') + share(profile, 'clock_gettime') > 0.3, profile.lines


def test_plt(run, tmp_path):
    """A jump and nothing else is a share of what calls do nothing else."""
    (tmp_path / 'lib.c').write_text('void empty_in_library(void) {}')
    (tmp_path / 'calls.c').write_text('#include <time.h>\nvoid empty_in_library(void); int main(void) { clock_t end = clock() + 2 * '
                                      'CLOCKS_PER_SEC; while (clock() < end) for (int i = 0; i < 100000; i++) empty_in_library(); }')
    subprocess.run(['gcc', '-O1', '-shared', '-fPIC', 'lib.c', '-o', 'libempty.so'], check=True, cwd=tmp_path)
    subprocess.run(['gcc', '-O1', 'calls.c', '-o', 'calls', './libempty.so'], check=True, cwd=tmp_path)
    subprocess.run(['strip', 'calls'], check=True, cwd=tmp_path)
    profile = run('./calls', rate=250, cwd=tmp_path).profile
    assert 'empty_in_library@plt' in {name for sample in profile.samples for name in sample.stack[-1:]}, profile.lines


# ---- Other root directories --------------------------------------------------------------------------------------------------


@pytest.fixture
def root(program, agent, tmp_path):
    """A root directory with the program, all that it needs to run under the agent, and its debug info; none is anywhere else."""
    if os.getuid() != 0:
        pytest.skip('chroot needs root')
    directory = tmp_path / 'root'
    libraries = re.findall(r'(/\S+) \(0x', subprocess.run(['ldd', program, '/bin/sleep', agent], capture_output=True, text=True, check=True).stdout)
    split_off(program, build_id_path(directory / 'usr/lib/debug', program))
    for path in {*libraries, str(pathlib.Path(agent).resolve()), agent}:
        copy = pathlib.Path(f'{directory}{path}')
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(os.path.realpath(path), copy)
    shutil.move(program, directory / 'spin')
    (directory / 'proc').mkdir()
    return directory


def test_chroot(run, root):
    """The program has ended, and its /proc directory is gone, by the time that names are looked for."""
    done = run('chroot', root, '/spin', rate=250)
    assert done.status == 0, done.stderr
    expect_dwarf(done.profile)


def test_chroot_debuglink(run, root):
    """Below the root's own /usr/lib/debug, where the path is that within the root."""
    found = next((root / 'usr/lib/debug/.build-id').rglob('*.debug'))
    found.rename(root / 'usr/lib/debug/spin.debug')
    shutil.rmtree(root / 'usr/lib/debug/.build-id')
    subprocess.run(['objcopy', f'--add-gnu-debuglink={root}/usr/lib/debug/spin.debug', root / 'spin'], check=True)
    expect_dwarf(run('chroot', root, '/spin', rate=250).profile)


@pytest.fixture
def pivot(root):
    """A command that runs another in a mount namespace of its own, with that root and nothing else."""
    if subprocess.run(['unshare', '-m', 'true'], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip('no mount namespaces here')
    if not shutil.which('busybox'):
        for tool in ('sh', 'umount'):
            path = shutil.which(tool)
            libraries = re.findall(r'(/\S+) \(0x', subprocess.run(['ldd', path], capture_output=True, text=True, check=True).stdout)
            for name in {*libraries, path}:
                copy = pathlib.Path(f'{root}{name}')
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(os.path.realpath(name), copy)
    (root / 'old').mkdir()

    def command(*inside):
        return ['unshare', '-m', '--propagation', 'private', 'sh', '-c',
                f'mount --bind {root} {root} && mount -t proc proc {root}/proc && cd {root} && pivot_root . old && '
                f'{shutil.which("umount")} -l /old && exec {" ".join(inside)}']
    return command


def test_mount_namespace(run, pivot):
    done = run(*pivot('/spin'), rate=250)
    assert done.status == 0, done.stderr
    expect_dwarf(done.profile)


def test_links_end_in_the_root(run, root, tmp_path):
    """A link of the target's leads to what it means there, not to a file of ours."""
    found = next((root / 'usr/lib/debug/.build-id').rglob('*.debug'))
    away = tmp_path / 'away.debug'
    found.rename(away)
    found.symlink_to(away)
    expect_nothing(run('chroot', root, '/spin', rate=250).profile)
    inside = pathlib.Path(f'{root}{away}')
    inside.parent.mkdir(parents=True, exist_ok=True)
    away.rename(inside)
    expect_dwarf(run('chroot', root, '/spin', rate=250).profile)
