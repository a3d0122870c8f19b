# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_setup.py: the scripts that people start with, where they cannot work: another system, no network. One clear line, status 1, and
# nothing done.

import os
import signal
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPTS = ['setup', 'demo', 'test']
LAST_LINE = {'test': ['0 passed, 1 failed']}  # it always ends with the count

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='needs root, for namespaces')


def run_apart(namespaces, script, environment=None):
    """bash's script in namespaces of its own; it and all that it started is gone afterwards."""
    process = subprocess.Popen(['unshare', *namespaces, 'bash', '-c', script], env={**os.environ, **(environment or {})}, cwd='/', text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        stdout, stderr = process.communicate(timeout=300)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    return process.returncode, stdout.splitlines(), stderr.splitlines()


@pytest.mark.parametrize('script', SCRIPTS)
@pytest.mark.parametrize('release, name', [
    ('ID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n', 'Ubuntu 24.04.1 LTS'),
    ('ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\n', 'Debian GNU/Linux 11 (bullseye)'),
    ('ID=arch\n', 'arch')])
def test_on_another_system(tmp_path, script, release, name):
    fake = tmp_path / 'os-release'
    fake.write_text(release)
    status, out, err = run_apart(['-m'], f'mount --bind {fake} "$(readlink -f /etc/os-release)" && {ROOT}/scripts/{script}')
    assert (status, out) == (1, LAST_LINE.get(script, []))
    assert err == [f"scripts/setup: profd's set-up knows Debian 12; this is {name}"]


@pytest.fixture(name='missing')
def fixture_missing(tmp_path):
    """A system where meson is said to be missing, and whose package lists are its own."""
    path, state = tmp_path / 'bin', tmp_path / 'apt'
    path.mkdir()
    for directory in ('state/lists/partial', 'cache/archives/partial', 'log'):
        (state / directory).mkdir(parents=True)
    query = path / 'dpkg-query'
    query.write_text('#!/bin/sh\nfor last; do :; done\n[ "$last" = meson ] && exit 1\nexec /usr/bin/dpkg-query "$@"\n')
    query.chmod(0o755)
    config = tmp_path / 'apt.conf'
    config.write_text(f'Dir::State "{state}/state";\nDir::State::status "/var/lib/dpkg/status";\nDir::Cache "{state}/cache";\n'
                      f'Dir::Log "{state}/log";\nAPT::Sandbox::User "root";\n')
    return {'PATH': f'{path}:{os.environ["PATH"]}', 'APT_CONFIG': str(config)}


@pytest.mark.parametrize('script', SCRIPTS)
def test_without_network(missing, script):
    status, out, err = run_apart(['-n'], f'{ROOT}/scripts/{script}', missing)
    assert status == 1
    assert out == ['scripts/setup: installing meson', *LAST_LINE.get(script, [])]
    assert len(err) == 1 and err[0].startswith('scripts/setup: apt-get update failed: E: '), err
