# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_install.py: what `meson install` leaves, and the public header as a program meets it: linked with nothing, in C and C++, with
# and without an agent.

import json
import os
import re
import subprocess

import pytest

from conftest import PRODUCT, PROFD, ROOT

ASKS = r'''
#include <profd.h>
#include <errno.h>
#include <stdio.h>
int main(void)
{
	errno = 77;
	int active = profd_active();
	const char *version = profd_version();
	printf("active=%d version='%s' errno=%d\n", active, version, errno);
	return 0;
}
'''
WAYS = {
    'c': ['gcc', '-x', 'c'],
    'c-no-pie': ['gcc', '-x', 'c', '-O2', '-fno-pie', '-no-pie'],
    'c-lto': ['gcc', '-x', 'c', '-O2', '-flto'],
    'c-intel': ['gcc', '-x', 'c', '-O2', '-masm=intel'],
    'clang': ['clang', '-x', 'c', '-O2'],
    'clang-intel': ['clang', '-x', 'c', '-O2', '-masm=intel'],
    'c++': ['g++', '-x', 'c++', '-std=c++11', '-pedantic'],
}


def build_asking(directory, way, include=os.path.join(ROOT, 'include')):
    source, program = directory / 'asks.c', directory / 'asks'
    source.write_text(ASKS)
    subprocess.run([*WAYS[way], '-Wall', '-Wextra', '-Werror', f'-I{include}', str(source), '-o', str(program)], check=True)
    return str(program)


def version():
    return subprocess.run([PROFD, '--version'], check=True, capture_output=True, text=True).stdout.split()[1]


@pytest.mark.parametrize('compiler, language, standards', [('gcc', 'c', ['gnu89', 'c89', 'c99', 'gnu17']), ('clang', 'c', ['c89', 'c11']),
                                                           ('g++', 'c++', ['c++98', 'c++20']), ('clang++', 'c++', ['c++98', 'c++20'])])
def test_header_alone(compiler, language, standards):
    """In old languages and new ones, without a word from the compiler."""
    flags = ['-Wall', '-Wextra', '-pedantic', '-Wshadow', '-Werror'] + ['-Wold-style-cast'] * (language == 'c++')
    for standard in standards:
        subprocess.run([compiler, '-x', language, f'-std={standard}', *flags, f'-I{ROOT}/include', '-c', '-o', os.devnull, '-'], check=True,
                       input='#include <profd.h>\nint there_is_something;\n', text=True)


@pytest.mark.parametrize('way', WAYS)
def test_header_without_agent(tmp_path, way):
    program = build_asking(tmp_path, way)
    run = subprocess.run([program], check=True, capture_output=True, text=True)
    assert run.stdout == "active=0 version='' errno=77\n"


@pytest.mark.parametrize('way', WAYS)
def test_header_with_agent(tmp_path, way):
    program = build_asking(tmp_path, way)
    run = subprocess.run([PROFD, 'run', '-o', str(tmp_path / 'out.folded'), '--', program], check=True, capture_output=True,
                         text=True)
    assert run.stdout == f"active=1 version='{version()}' errno=77\n"


def test_header_in_a_static_program(tmp_path):
    source = tmp_path / 'asks.c'
    source.write_text(ASKS)
    subprocess.run(['gcc', '-static', f'-I{ROOT}/include', str(source), '-o', str(tmp_path / 'asks')], check=True)
    run = subprocess.run([str(tmp_path / 'asks')], check=True, capture_output=True, text=True)
    assert run.stdout == "active=0 version='' errno=77\n"


@pytest.fixture(name='installed', scope='module')
def fixture_installed(tmp_path_factory):
    """Where a package would be put together."""
    root = tmp_path_factory.mktemp('install')
    subprocess.run(['meson', 'install', '-C', PRODUCT, '--no-rebuild', '--destdir', str(root)], check=True, capture_output=True)
    return root


def find(root, name):
    return [os.path.join(directory, name) for directory, _, files in os.walk(root) if name in files]


@pytest.mark.parametrize('name, place', [
    ('profd', r'/bin/profd$'), ('libprofd.so', r'/lib\w*/(.*/)?libprofd\.so$'), ('profd.h', r'/include/profd\.h$'),
    ('profd.pc', r'/pkgconfig/profd\.pc$'), ('profd.1', r'/man/man1/profd\.1$'), ('libprofd.3', r'/man/man3/libprofd\.3$')])
def test_installs(installed, name, place):
    paths = find(installed, name)
    assert len(paths) == 1 and re.search(place, paths[0])


def test_pkg_config(installed, tmp_path):
    pc = find(installed, 'profd.pc')[0]

    def ask(*options):
        environment = {**os.environ, 'PKG_CONFIG_PATH': os.path.dirname(pc), 'PKG_CONFIG_SYSROOT_DIR': str(installed)}
        return subprocess.run(['pkg-config', *options, 'profd'], env=environment, check=True, capture_output=True,
                              text=True).stdout.strip()
    assert ask('--modversion') == version()
    assert ask('--libs') == ''
    include = re.fullmatch(r'-I(\S+)', ask('--cflags'))[1]
    build_asking(tmp_path, 'c', include)
    agent = ask('--variable=agent')
    assert os.path.exists(agent if agent.startswith(str(installed)) else f'{installed}{agent}')


def test_installed_collector_finds_installed_agent(installed, tmp_path):
    """In a build tree of its own, the prefix is a directory that exists."""
    build, prefix = tmp_path / 'build', tmp_path / 'prefix'
    subprocess.run(['meson', 'setup', str(build), ROOT, f'--prefix={prefix}', '-Doptimization=0'], check=True, capture_output=True)
    # What is installed, and none of the tests: they take a minute.
    targets = json.loads(subprocess.run(['meson', 'introspect', '--targets', str(build)], check=True, capture_output=True, text=True).stdout)
    files = [os.path.relpath(name, build) for target in targets if target['installed'] for name in target['filename']]
    subprocess.run(['ninja', '-C', str(build), *files], check=True, capture_output=True)
    subprocess.run(['meson', 'install', '-C', str(build), '--no-rebuild'], check=True, capture_output=True)
    profd, agent = find(prefix, 'profd')[0], find(prefix, 'libprofd.so')[0]
    for path in (build / 'collector', build / 'profd'):
        path.rename(str(path) + '-moved')
    program = build_asking(tmp_path, 'c')
    run = subprocess.run([profd, 'run', '-o', str(tmp_path / 'out.folded'), '--', program], check=True, capture_output=True,
                         text=True)
    assert run.stdout.startswith('active=1')
    environment = {**os.environ, 'LD_PRELOAD': agent, 'PROFD_OUTPUT': str(tmp_path / 'own.folded')}
    run = subprocess.run([program], env=environment, check=True, capture_output=True, text=True)
    assert run.stdout.startswith('active=1'), run.stderr
