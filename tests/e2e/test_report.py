# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_report.py: a reason for each frame without a name: as module+0xoffset in every format, with what there is of debug info and what would
# help in the comments, at the end of debug=1 and in `profd report` of a file, a process and an address; and names made short.

import contextlib
import gzip
import json
import os
import re
import shutil
import subprocess
import time

import pytest

import pprof_reader
from test_pprof_url import wait_for
from waiting import LONG_S

LIBRARY = '''
__attribute__((noinline)) static long burn(long n)
{
    long sum = n;
    for (long i = 0; i < 20000000; i++)
        __asm__ volatile("" : "+r"(sum));
    return sum;
}
long work(long n)
{
    long sum = burn(n);
    __asm__ volatile("" : "+r"(sum)); /* no tail call */
    return sum;
}
'''
PROGRAM = '''
#include <stdlib.h>
long work(long n);
int main(int argc, char **argv)
{
    long sum = 0, turns = atol(argv[1]);
    for (long i = 0; i < turns; i++)
        sum += work(i);
    return sum == 42;
}
'''
STRIPPED = ['-O1', '-s']


@pytest.fixture(scope='module', name='build')
def fixture_build(tmp_path_factory):
    """Of a program that calls into a library all the time, built with these options; then is a command upon the library."""

    def do(name, *options, compiler='gcc', then=None):
        directory = tmp_path_factory.mktemp(name)
        library, program = directory / 'libwork.so', directory / 'program'
        (directory / 'library.c').write_text(LIBRARY)
        (directory / 'program.c').write_text(PROGRAM)
        subprocess.run([compiler, '-shared', '-fPIC', '-Wl,--build-id', '-Wl,-soname,libwork.so', *options, '-o', library,
                        directory / 'library.c'], check=True)
        if then:
            subprocess.run(then, shell=True, check=True, cwd=directory)
        subprocess.run(['gcc', '-O1', '-g', '-o', program, directory / 'program.c', library, f'-Wl,-rpath,{directory}'], check=True)
        return program, library

    return do


@pytest.fixture(scope='module', name='stripped')
def fixture_stripped(build):
    return build('stripped', *STRIPPED)


@contextlib.contextmanager
def running(program):
    with subprocess.Popen([program, '1000000000']) as process:
        try:
            while 'libwork.so' not in open(f'/proc/{process.pid}/maps', encoding='utf-8').read():
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def report(profd, *arguments, status=0):
    done = subprocess.run([profd, 'report', *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def report_json(profd, *arguments):
    return json.loads(report(profd, '--json', *arguments))


def module_of(answer, path):
    return next(module for module in answer['modules'] if module['file'] == str(path))


def report_with(profd, path, *arguments):
    """Until a thread is seen in there: one that runs and gets no CPU for a while has no stack in a snapshot."""
    deadline = time.monotonic() + LONG_S
    while True:
        answer = report_json(profd, *arguments)
        if any(module['file'] == str(path) for module in answer['modules']) or time.monotonic() > deadline:
            return answer


@pytest.fixture(scope='module', name='files')
def fixture_files(profd, stripped, tmp_path_factory):
    """One run, in every format."""
    directory = tmp_path_factory.mktemp('files')
    names = ['out.pb.gz', 'out.folded', 'out.svg', 'out.html', 'out.speedscope.json']
    options = [word for name in names for word in ('-o', str(directory / name))]
    # Long enough for start-up to be next to nothing of it, also where that takes a tenth of a second.
    subprocess.run([profd, 'run', '-r', '250', *options, '--', stripped[0], '200'], check=True, stderr=subprocess.DEVNULL)
    return {name.partition('.')[2]: directory / name for name in names}


@pytest.mark.parametrize('extension', ['folded', 'svg', 'html', 'speedscope.json'])
def test_module_and_offset(files, extension):
    assert re.search(r'\blibwork\.so\+0x1[0-9a-f]+\b', files[extension].read_text(encoding='utf-8'))


# pprof's own readers show "[libwork.so]" where there is no name; an invented one would hide that a server could still find it.
def test_pprof_has_comment(files, stripped):
    profile = pprof_reader.read(str(files['pb.gz']))
    said = [comment for comment in profile.comments if comment.startswith(f'nameless: {stripped[1]}: ')]
    assert len(said) == 1
    share = float(re.search(r': ([\d.]+)% of samples \(self ([\d.]+)%\); names from \.dynsym; build it with -g, and do not strip it$',
                            said[0])[1])
    assert share > 80
    assert sum(comment.startswith('nameless: ') for comment in profile.comments) <= 3  # of libc and ld.so at most beside it


def test_report_of_file(profd, files, stripped):
    text = report(profd, files['pb.gz'])
    assert re.search(r'^cpu: ', text, re.M)
    assert re.search(r'^ +[\d.]+ m?s +[\d.]+% +[\d.]+ m?s +[\d.]+%  libwork\.so\+0x1[0-9a-f]+$', text, re.M)
    assert re.search(rf'%  {re.escape(str(stripped[1]))} \(\.dynsym\)\n +-> build it with -g, and do not strip it$', text, re.M)
    assert 'nameless' not in text
    answer = report_json(profd, files['pb.gz'])
    library = module_of(answer, stripped[1])
    assert library['names_from'] == '.dynsym' and library['build_id']
    assert 0.8 * answer['total'] < library['nameless_self'] <= library['nameless_total'] <= library['total'] <= answer['total']
    functions = {function['name']: function for function in answer['functions']}
    assert functions['work']['total'] >= functions['work']['self'] + 0.8 * answer['total']
    assert functions['main']['total'] > 0.8 * answer['total'] and functions['main']['file'].endswith('program.c')


def test_report_sorts_and_cuts(profd, files):
    answer = report_json(profd, '--total', '--top', '3', files['pb.gz'])
    totals = [function['total'] for function in answer['functions']]
    assert len(totals) == 3 and totals == sorted(totals, reverse=True) and totals[0] > 0.9 * answer['total']
    samples = report_json(profd, '--value', 'samples', files['pb.gz'])
    assert (samples['type'], samples['unit']) == ('samples', 'count')


def test_report_of_what_is_no_profile(profd, files, tmp_path):
    (tmp_path / 'text').write_text('hello')
    (tmp_path / 'cut.pb.gz').write_bytes(files['pb.gz'].read_bytes()[:-20])
    for path in ('text', 'cut.pb.gz'):
        assert "not a profile in pprof's form" in report(profd, tmp_path / path, status=1)
    assert 'No such file' in report(profd, tmp_path / 'nothing', status=1)
    assert 'there is no process' in report(profd, 4000000, status=1)
    assert "no value 'heap'" in report(profd, '--value', 'heap', files['pb.gz'], status=1)
    assert 'which profile?' in report(profd, status=2)
    assert 'unknown option' in report(profd, '--wrong', status=2)


def test_standard_input_and_foreign_files(profd, files, go, tmp_path):
    packed = files['pb.gz'].read_bytes()
    for data in (packed, gzip.decompress(packed)):
        done = subprocess.run([profd, 'report', '--json', '-'], input=data, capture_output=True, timeout=60, check=True)
        assert json.loads(done.stdout)['functions']
    merged = tmp_path / 'merged.pb.gz'
    subprocess.run([go, 'tool', 'pprof', '-proto', '-output', merged, files['pb.gz'], files['pb.gz']], check=True, capture_output=True,
                   env=dict(os.environ, HOME=str(tmp_path), PPROF_TMPDIR=str(tmp_path)))
    once, twice = report_json(profd, files['pb.gz']), report_json(profd, merged)
    assert twice['total'] == 2 * once['total']
    assert twice['functions'][0]['self'] == 2 * once['functions'][0]['self']


# ---- Live ---------------------------------------------------------------------------------------------------------------

def test_report_of_process(profd, stripped):
    with running(stripped[0]) as process:
        answer = report_with(profd, stripped[1], '--seconds', '2', process.pid)
    assert (answer['type'], answer['unit']) == ('wall', 'nanoseconds')
    library = module_of(answer, stripped[1])
    assert library['names_from'] == '.dynsym' and 'build it with -g' in library['advice']


KINDS = [('DWARF', 'gcc', ['-O1', '-g'], None),
         ('DWARF with lines only', 'clang', ['-O1', '-gline-tables-only'], None),
         ('.symtab', 'gcc', ['-O1'], None),
         ('.dynsym', 'gcc', ['-O1', '-s'], None),
         ('.gnu_debugdata', 'gcc', ['-O1'], 'objcopy --keep-file-symbols -S --keep-symbol=burn libwork.so mini && xz -T1 mini && strip libwork.so && '
          'objcopy --add-section .gnu_debugdata=mini.xz libwork.so')]


@pytest.mark.parametrize('kind, compiler, options, then', KINDS, ids=[kind[0].strip('.').replace(' ', '_') for kind in KINDS])
def test_kinds_of_debug_info(profd, build, kind, compiler, options, then):
    if not shutil.which(compiler):
        pytest.skip(f'{compiler} is not installed')
    program, library = build('kind', *options, compiler=compiler, then=then)
    with running(program) as process:
        answer = report_with(profd, library, '--seconds', '1', process.pid)
    assert module_of(answer, library)['names_from'] == kind


@pytest.fixture(name='url')
def fixture_url(profd, stripped):
    with subprocess.Popen([profd, 'run', '--http', '127.0.0.1:0', '--', stripped[0], '1000000000'], stderr=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, text=True) as process:
        base = re.search(r'http://127\.0\.0\.1:\d+', process.stderr.readline())[0]
        wait_for(f'{base}/debug/pprof/cmdline')
        yield base
        process.terminate()


def test_report_of_address(profd, stripped, url):
    for address, type_ in ((url, 'cpu'), (f'{url}/debug/pprof/wall', 'wall'), (f'{url}/debug/pprof/goroutine', 'goroutine')):
        answer = report_with(profd, stripped[1], *(['--seconds', '1'] if type_ != 'goroutine' else []), address)
        assert answer['type'] == type_
        assert module_of(answer, stripped[1])['names_from'] == '.dynsym', address
    assert 'Unknown profile' in report(profd, f'{url}/debug/pprof/nonsense', status=1)


def test_end_of_debug_1(stripped, url):
    deadline = time.monotonic() + LONG_S
    while 'libwork' not in (text := wait_for(f'{url}/debug/pprof/goroutine?debug=1')):
        assert time.monotonic() < deadline, text
    lines = text.rstrip('\n').splitlines()
    said = [line for line in lines if line.startswith(f'# nameless: {stripped[1]}: ')]
    assert len(said) == 1 and said[0].endswith('names from .dynsym; build it with -g, and do not strip it')
    assert lines[-1].startswith('# nameless: ')


# What a package would bring, by dpkg's own word.
def test_package(profd):
    code = 'import zlib\nwhile True: zlib.compress(bytes(range(256)) * 40000)'
    with subprocess.Popen(['/usr/bin/python3', '-c', code]) as process:
        try:
            while not (path := re.search(r' (/\S*/libz\.so\S*)\n', open(f'/proc/{process.pid}/maps', encoding='utf-8').read())):
                assert process.poll() is None
            answer = report_with(profd, path[1], '--seconds', '2', process.pid)
        finally:
            process.kill()
    library = module_of(answer, path[1])
    if library['names_from'] != '.dynsym':
        pytest.skip(f"zlib's names come from {library['names_from']}")
    owner = subprocess.run(['dpkg', '-S', path[1], path[1].removeprefix('/usr')], capture_output=True, text=True, check=False).stdout
    package = re.match(r'[^:]+', owner)[0]
    assert library['advice'] == f'install {package}-dbgsym, or set DEBUGINFOD_URLS'


JAVASCRIPT = 'function spin(n) { let s = 0; for (let i = 0; i < n; i++) s += i % 7; return s }; for (let k = 0; k < 1000; k++) spin(1e6)'


@pytest.mark.skipif(not shutil.which('node'), reason='node is not installed')
@pytest.mark.parametrize('option', [None, '--perf-basic-prof'])
def test_generated_code(profd, tmp_path, option):
    options = [option] if option else []
    output = tmp_path / 'out.pb.gz'
    subprocess.run([profd, 'run', '-r', '250', '-o', output, '--', 'node', *options, '-e', JAVASCRIPT], check=True,
                   capture_output=True, cwd=tmp_path)
    answer = report_json(profd, output)
    generated = module_of(answer, '[anonymous]')
    if option:
        assert any('spin' in function['name'] for function in answer['functions'])
        assert generated['nameless_total'] < 0.2 * answer['total']
    else:
        assert generated['nameless_total'] > 0.3 * answer['total']
        assert generated['names_from'] == 'nothing' and '--perf-basic-prof' in generated['advice']


# ---- Names made short -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module', name='cpp')
def fixture_cpp(profd, helper):
    with subprocess.Popen([profd, 'run', '--http', '127.0.0.1:0', '--', helper('target_cpp'), '600000'], stderr=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, text=True) as process:
        base = re.search(r'http://127\.0\.0\.1:\d+', process.stderr.readline())[0]
        wait_for(f'{base}/debug/pprof/cmdline')
        yield f'{base}/debug/pprof'
        process.terminate()


def test_names_of_formats(cpp):
    full, default, made = (wait_for(f'{cpp}/profile?seconds=2&rate=1000&format=folded{names}') for names in ('&names=full', '', '&names=short'))
    assert 'std::vector<shop::order' in full and 'std::vector<shop::order' in default
    assert '<shop::order' not in made and '<…>' in made and '(…)' in made


def test_names_of_pictures(cpp):
    full, default, made = (wait_for(f'{cpp}/profile?seconds=1&format=svg{names}') for names in ('&names=full', '', '&names=short'))
    for text in (default, made):
        assert re.search(r'<title>[^<]*&lt;shop::order', text)  # where the pointer is
        assert not re.search(r'<text[^>]*>[^<]*&lt;shop::order', text) and 'data-l="' in text
    assert 'data-l="' not in full


def test_names_of_dumps(cpp):
    for query in ('debug=1', 'debug=2', 'format=json', 'format=folded'):
        made = wait_for(f'{cpp}/goroutine?names=short&{query}')
        assert '<shop::' not in made and '<std::' not in made, query


def test_names_that_cannot_be(cpp):
    for path in ('profile?seconds=1', 'goroutine?debug=1', 'wall?seconds=1'):
        done = subprocess.run(['curl', '-s', '-w', '%{http_code}', f'{cpp}/{path}&names=long'], capture_output=True, text=True, check=True)
        assert done.stdout.endswith('names must be full or short\n400')


def test_full_names_of_run(profd, helper, tmp_path):
    for option in ([], ['--full-names']):
        subprocess.run([profd, 'run', *option, '-r', '250', '-o', tmp_path / 'out.svg', '--', helper('target_cpp'), '300'], check=True,
                       capture_output=True)
        assert ('data-l="' in (tmp_path / 'out.svg').read_text(encoding='utf-8')) == (not option)
