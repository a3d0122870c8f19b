# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# conftest.py: where the things under test are. PROFD_BUILD names the build directory (default: build in the checkout) with the programs
# to profile, and the product unless PROFD_PRODUCT names another one for that: the sanitized one.

import glob
import os
import shutil
import subprocess
import tempfile

import pytest

import pprof_reader

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get('PROFD_BUILD', os.path.join(ROOT, 'build')))
PRODUCT = os.path.abspath(os.environ.get('PROFD_PRODUCT', BUILD))
PROFD = os.path.join(PRODUCT, 'collector/profd')
AGENT = os.path.join(PRODUCT, 'profd/libprofd.so')


def pytest_configure(config):
    config.addinivalue_line('markers', 'figures: of shares, times or memory, or of very many threads: not for a product that sanitizers slow down')


@pytest.fixture(scope='session', autouse=True)
def cache_dir(tmp_path_factory):
    """One of this run's own: a table that an older build made would stand in for what this one makes."""
    os.environ['PROFD_CACHE_DIR'] = str(tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='session')
def build_dir():
    return BUILD


@pytest.fixture(scope='session')
def profd():
    return PROFD


@pytest.fixture(scope='session')
def agent():
    return AGENT


@pytest.fixture(scope='session')
def helper():
    """The path of a compiled program of tests/e2e."""
    return lambda name: os.path.join(BUILD, 'tests/e2e', name)


@pytest.fixture(scope='session')
def public():
    """Copies a built file to where every user may use it: the checkout may be in /root."""
    directory = tempfile.mkdtemp(prefix='profd-public-', dir='/tmp')
    os.chmod(directory, 0o755)
    yield lambda path: shutil.copy2(path, directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope='session')
def go():
    # Debian's go brings pprof along; newer ones build it when it is first used.
    path = next(iter(sorted(glob.glob('/usr/lib/go-*/bin/go'))), None) or shutil.which('go')
    if not path:
        pytest.skip('go is not installed')
    return path


@pytest.fixture(scope='session')
def npm_dir(tmp_path_factory):
    """A directory with the npm packages that read our formats: PROFD_NPM_DIR, or one made for this run."""
    if not shutil.which('node') or not shutil.which('npm'):
        pytest.skip('node or npm is not installed')
    directory = os.environ.get('PROFD_NPM_DIR') or str(tmp_path_factory.mktemp('npm'))
    packages = ['pprof-format@2', 'speedscope@1', 'ajv@8']
    if not all(os.path.isdir(os.path.join(directory, 'node_modules', name.split('@')[0])) for name in packages):
        os.makedirs(directory, exist_ok=True)
        subprocess.run(['npm', 'install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', directory,
                        *packages], check=True, stdout=subprocess.DEVNULL, timeout=180)
    return directory


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


def own_words(text):
    """What is on standard error without profd's lines."""
    return ''.join(line for line in text.splitlines(True) if not line.startswith('profd: '))


def natural(*command, timeout=120, **more):
    """The command without profd; its status as a shell would say it."""
    env = dict(os.environ, **more.pop('env', {}))
    result = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                            env=env, **more)
    if result.returncode < 0:
        result.returncode = 128 - result.returncode
    return result


@pytest.fixture
def same(run):
    """As run, after the same without profd: both must end alike, and print the same."""

    def do(*command, rate=250, **more):
        alone = natural(*command, **{key: value for key, value in more.items() if key != 'options'})
        result = run(*command, rate=rate, **more)
        assert (result.status, result.stdout) == (alone.returncode, alone.stdout), result.stderr
        assert own_words(result.stderr) == alone.stderr
        return result

    return do
