# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_pprof_url.py: go tool pprof as people use it: it asks a running program for its profile, prints a table, or serves its pages.

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

NAMES = ['thread_main', 'share_10', 'share_5', 'spin']


@pytest.fixture(name='url')
def fixture_url(profd, helper):
    """Of a program that works until it is killed."""
    with subprocess.Popen([profd, 'run', '--http', '127.0.0.1:0', '--', helper('target_truth'), '1', '600'], stderr=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, text=True) as process:
        base = re.search(r'http://127\.0\.0\.1:\d+', process.stderr.readline())[0]
        wait_for(f'{base}/debug/pprof/cmdline')
        yield f'{base}/debug/pprof/profile?rate=1000'  # a busy machine gives it little CPU time
        process.terminate()


def wait_for(url):
    """The first answer that is a page."""
    deadline = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def environment(tmp_path):
    return dict(os.environ, PPROF_TMPDIR=str(tmp_path), HOME=str(tmp_path))


def test_top_of_five_seconds(go, url, tmp_path):
    done = subprocess.run([go, 'tool', 'pprof', '-top', '-seconds', '5', '-timeout', '120', url], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env=environment(tmp_path), timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert f'Fetching profile over HTTP from {url}&seconds=5' in done.stderr
    assert re.search(r'\nType: cpu\n', done.stdout)
    duration = float(re.search(r'\nDuration: ([\d.]+)s, Total samples = ', done.stdout)[1])
    assert 4.9 <= duration < 10  # a busy machine may end it late
    rows = {found[2]: float(found[1]) for found in re.finditer(r'([\d.]+)% +(\S+)$', done.stdout, re.M)}
    for name in NAMES:
        assert rows[name] > 0, done.stdout
    assert rows['share_10'] > rows['share_5'] and rows['thread_main'] > 95


def test_pages(go, url, tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        address = f'127.0.0.1:{taken.getsockname()[1]}'
    with subprocess.Popen([go, 'tool', 'pprof', '-http', address, '-no_browser', '-seconds', '2', '-timeout', '120', url], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(tmp_path)) as server:
        try:
            pages = ['/ui/top', '/ui/flamegraph', '/ui/peek?f=share']
            if shutil.which('dot'):
                pages.append('/ui/')  # the graph, which pprof has graphviz draw
            for page in pages:
                text = wait_for(f'http://{address}{page}')
                assert [name for name in NAMES if name not in text] == [], page
        finally:
            server.terminate()
