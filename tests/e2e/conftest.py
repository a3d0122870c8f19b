# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# conftest.py: where the things under test are. PROFD_BUILD names the build directory (default: build in the checkout).

import os
import shutil
import subprocess

import pytest

import pprof_reader

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get('PROFD_BUILD', os.path.join(ROOT, 'build')))


@pytest.fixture(scope='session')
def build_dir():
    return BUILD


@pytest.fixture(scope='session')
def profd():
    return os.path.join(BUILD, 'collector/profd')


@pytest.fixture(scope='session')
def agent():
    return os.path.join(BUILD, 'profd/libprofd.so')


@pytest.fixture(scope='session')
def helper():
    """The path of a compiled program of tests/e2e."""
    return lambda name: os.path.join(BUILD, 'tests/e2e', name)


@pytest.fixture(scope='session')
def go():
    path = shutil.which('go')
    if not path:
        pytest.skip('go is not installed')
    return path


class Run:
    """What a command did under profd: its own result, profd's words, and the profile."""

    def __init__(self, result, output):
        self.status = result.returncode
        self.stdout = result.stdout
        self.stderr = result.stderr
        self.output = output

    @property
    def profile(self):
        return pprof_reader.read(self.output)


@pytest.fixture
def run(profd, tmp_path):
    """run(command…, rate=100, env={}, stdin=None): the command under `profd run`."""

    def do(*command, rate=100, timeout=120, options=(), **more):
        output = str(tmp_path / 'out.pb.gz')
        env = dict(os.environ, **more.pop('env', {}))
        result = subprocess.run([profd, 'run', '--rate', str(rate), '-o', output, *options, '--', *map(str, command)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, env=env, **more)
        return Run(result, output)

    return do
