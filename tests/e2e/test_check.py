# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_check.py: `profd check` on programs built in each way that matters, and what it says is what a profile of them then is.

import json
import os
import random
import shutil
import subprocess

import pytest

SOURCE = r'''
#include <unistd.h>
volatile unsigned long sink;
#define F(n) __attribute__((noinline)) void function_##n(int i) { for (; i > 0; i--) sink += (unsigned long)i * n; sink++; }
F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12)
int main(int argc, char **argv)
{
	if (argc > 1)
		pause();
	function_1(3); function_2(3); function_3(3); function_4(3); function_5(3); function_6(3);
	function_7(3); function_8(3); function_9(3); function_10(3); function_11(3); function_12(3);
	return sink == 0;
}
'''
NO_CFI = ['-fno-asynchronous-unwind-tables', '-fno-unwind-tables', '-nostartfiles', '-Wl,-e,main', '-Wl,--no-ld-generated-unwind-info', '-fcf-protection=none']


@pytest.fixture(scope='module')
def build(tmp_path_factory):
    directory = tmp_path_factory.mktemp('check')
    (directory / 'program.c').write_text(SOURCE)

    def compile_it(name, *options, then=None):
        path = directory / name
        subprocess.run(['gcc', '-O2', '-o', path, directory / 'program.c', *options], check=True)
        if then:
            subprocess.run([*then, path], check=True)
        return path
    return compile_it


def check(profd, *arguments, status=None):
    result = subprocess.run([profd, 'check', '--json', *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == status, (result.stdout, result.stderr)
    return json.loads(result.stdout) if status < 2 else result.stderr


def findings(answer, module=0):
    return {finding['topic']: finding for finding in answer['modules'][module]['findings']}


def levels(answer):
    return {topic: finding['level'] for topic, finding in findings(answer).items()}


def test_debug_info(profd, build):
    answer = check(profd, build('debug', '-g'), status=0)
    assert levels(answer) == {'build ID': 'good', 'unwinding': 'good', 'names': 'good', 'agent': 'good'}
    assert answer['level'] == 'good'
    assert 'lines' in findings(answer)['names']['text'] and 'in the file itself' in findings(answer)['names']['text']


@pytest.mark.parametrize('name, options, then, level, words', [
    ('symtab', [], None, 'note', '.symtab'),
    ('stripped', [], ['strip'], 'poor', '.dynsym'),
    ('split', ['-g', '-gsplit-dwarf', '-gdwarf-5'], None, 'note', '.dwo'),
])
def test_names(profd, build, name, options, then, level, words):
    names = findings(check(profd, build(name, *options, then=then), status=level == 'poor'))['names']
    assert names['level'] == level and words in names['text'] and names['advice']


def test_separate_debug_info(profd, build):
    path = build('separate', '-g')
    subprocess.run(['objcopy', '--only-keep-debug', path, f'{path}.debug'], check=True)
    subprocess.run(['objcopy', '--strip-all', f'--add-gnu-debuglink={path}.debug', path], check=True)
    assert 'in a separate file' in findings(check(profd, path, status=0))['names']['text']
    os.unlink(f'{path}.debug')
    assert levels(check(profd, path, status=1))['names'] == 'poor'


# What to install, by dpkg's own word.
def test_package(profd):
    answer = json.loads(subprocess.run([profd, 'check', '--json', '/usr/bin/sleep'], capture_output=True, text=True, check=False).stdout)
    names = findings(answer)['names']
    if names['level'] == 'good':
        pytest.skip("sleep's debug info is installed")
    owner = subprocess.run(['dpkg', '-S', '/usr/bin/sleep', '/bin/sleep'], capture_output=True, text=True, check=False).stdout
    assert names['advice'].startswith(f'install {owner.partition(":")[0]}-dbgsym (/usr/lib/debug/.build-id/')


def test_no_build_id(profd, build):
    answer = check(profd, build('nobuildid', '-g', '-Wl,--build-id=none'), status=0)
    assert levels(answer)['build ID'] == 'note' and answer['modules'][0]['build_id'] == ''


def test_no_call_frame_information(profd, build):
    path = build('nocfi', *NO_CFI)
    unwinding = findings(check(profd, path, status=1))['unwinding']
    assert unwinding['level'] == 'poor' and 'frame-pointer' in unwinding['advice']
    kept = build('nocfi_fp', *NO_CFI, '-O0')
    unwinding = findings(check(profd, kept, status=0))['unwinding']
    assert unwinding['level'] == 'note' and '% of its functions keep a frame pointer' in unwinding['text']


def test_static(profd, build):
    for options in (['-static'], ['-static-pie']):
        answer = check(profd, build('static', '-g', *options), status=1)
        assert answer['level'] == 'bad' and levels(answer)['agent'] == 'bad'
        assert 'static' in findings(answer)['agent']['text']


def test_setuid(profd, build):
    path = build('setuid', '-g')
    os.chmod(path, 0o4755)
    assert 'setuid' in json.dumps(check(profd, path, status=0))


def test_library(profd, build):
    answer = check(profd, build('library.so', '-g', '-shared', '-fPIC', '-Wl,-soname,library.so'), status=0)
    assert 'agent' not in levels(answer) and levels(answer)['names'] == 'good'


def test_script_is_its_interpreter(profd, tmp_path):
    script = tmp_path / 'script'
    script.write_text('#!/bin/sh\ntrue\n')
    script.chmod(0o755)
    answer = json.loads(subprocess.run([profd, 'check', '--json', script], capture_output=True, text=True, check=False).stdout)
    assert os.path.realpath(answer['modules'][0]['path']) == os.path.realpath('/bin/sh')


def test_process(profd, agent, build):
    path = build('process', '-g')
    for environment in ({}, {'LD_PRELOAD': agent, 'PROFD_SOCKET': '/nonexistent'}):
        process = subprocess.Popen([path, 'wait'], env=os.environ | environment)
        try:
            while 'libc.so' not in (maps := open(f'/proc/{process.pid}/maps', encoding='ascii').read()) or \
                    ('libprofd' not in maps) != (not environment):
                pass
            answer = check(profd, process.pid, status=0)
        finally:
            process.kill()
            process.wait()
        assert answer['modules'][0]['path'] == str(path)
        assert any('libc.so' in module['path'] for module in answer['modules'])
        assert ('is in it' in findings(answer)['agent']['text']) == bool(environment)


def test_deleted_program(profd, build, tmp_path):
    copy = tmp_path / 'gone'
    shutil.copy(build('deleted', '-g'), copy)
    process = subprocess.Popen([copy, 'wait'])
    try:
        while str(copy) not in open(f'/proc/{process.pid}/maps', encoding='ascii').read():
            pass
        copy.unlink()
        answer = check(profd, process.pid, status=0)
        assert levels(answer)['names'] == 'good' and 'deleted' in findings(answer)['file']['text']
    finally:
        process.kill()
        process.wait()


def test_damaged_files(profd, build, tmp_path):
    """Any damage at all: an answer or a refusal, never a crash."""
    whole = build('whole', '-g').read_bytes()
    generator = random.Random(5)
    damaged = tmp_path / 'damaged'
    for i in range(60):
        data = bytearray(whole[:generator.randrange(1, len(whole))] if i % 2 else whole)
        for _ in range(generator.choice([1, 10, 100])):
            data[generator.randrange(len(data)) if i % 3 else generator.randrange(min(64, len(data)))] = generator.randrange(256)
        damaged.write_bytes(data)
        result = subprocess.run([profd, 'check', damaged], capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode in (0, 1, 2), (i, result)
        assert (result.returncode == 2) == (result.stderr.count('\n') == 1)


def test_wrong_usage(profd, tmp_path):
    assert 'which program' in check(profd, status=2)
    assert 'one at a time' in check(profd, '/bin/ls', '/bin/cat', status=2)
    assert 'no such file' in check(profd, tmp_path / 'none', status=2)
    assert 'neither a program nor a library' in check(profd, __file__, status=2)
    assert 'there is no process' in check(profd, 2000000000, status=2)
    assert 'unknown option' in check(profd, '--nonsense', status=2)


def test_for_people(profd, build):
    result = subprocess.run([profd, 'check', build('people', then=['strip'])], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == 'will profile poorly'
    assert '  poor  names ' in result.stdout and '\n                    -> ' in result.stdout
