# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_leaks.py: the leak gate: the script of docs/leaks.md as it stands there, a live process, limits, JUnit, and files that are no snapshots.

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.request
import xml.etree.ElementTree

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROW = re.compile(r'^ +(\d+) +(\d+) +(\d+)  (LEAK|    )  (.+)$', re.M)


def leaks(profd, *arguments):
    return subprocess.run([profd, 'leaks', *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def documented_script():
    with open(os.path.join(ROOT, 'docs/leaks.md'), encoding='utf-8') as file:
        scripts = re.findall(r'```sh\n(.*?)```', file.read(), re.S)
    assert len(scripts) == 1
    return scripts[0]


@contextlib.contextmanager
def service(helper, mode):
    with subprocess.Popen([helper('target_leaky'), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def wait_for_sleepers(pid):
    """Until all its threads sleep: who has answered a request waits, or is about to."""
    deadline = time.monotonic() + 120
    while True:
        with contextlib.ExitStack() as files:
            try:
                stats = [files.enter_context(open(f'/proc/{pid}/task/{tid}/stat', encoding='ascii')).read() for tid in os.listdir(f'/proc/{pid}/task')]
            except FileNotFoundError:  # one has just ended
                continue
        if all(text.rpartition(')')[2].split()[0] == 'S' for text in stats):
            return
        assert time.monotonic() < deadline
        time.sleep(0.002)


def request(process, count=1):
    for _ in range(count):
        process.stdin.write('hello\n')
        process.stdin.flush()
        assert process.stdout.readline() == 'done\n'


def snapshot(profd, process, path):
    wait_for_sleepers(process.pid)
    with open(path, 'wb') as file:
        subprocess.run([profd, 'dump', '--json', str(process.pid)], stdout=file, timeout=60, check=True)


@pytest.fixture
def pair(profd, helper, tmp_path):
    """Snapshots with one leaked worker and with six."""
    files = tmp_path / 'before.json', tmp_path / 'after.json'
    with service(helper, 'leak') as process:
        request(process)
        snapshot(profd, process, files[0])
        request(process, 5)
        snapshot(profd, process, files[1])
    return ['--before', files[0], '--after', files[1]]


@pytest.mark.parametrize('mode,status', [('leak', 1), ('mended', 0)])
def test_documented(profd, helper, tmp_path, mode, status):
    """The script of docs/leaks.md finds the leak, and passes the program that is mended."""
    script = tmp_path / 'leak-gate'
    script.write_text(documented_script())
    script.chmod(0o755)
    env = dict(os.environ, PATH=os.path.dirname(profd) + ':' + os.environ['PATH'])
    result = subprocess.run([script, helper('target_leaky'), mode], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == status, result
    rows = ROW.findall(result.stdout)
    suite = xml.etree.ElementTree.parse(tmp_path / 'leaks.xml').getroot().find('testsuite')
    failures = [case for case in suite.iter('testcase') if case.find('failure') is not None]
    assert suite.get('name') == 'profd leaks' and int(suite.get('failures')) == len(failures) == status
    assert int(suite.get('tests')) == len(list(suite.iter('testcase')))
    if mode == 'mended':
        assert rows == [] and result.stdout.endswith('grown: 0, leaks: 0\n')
        return
    assert rows == [('1', '21', '20', 'LEAK', 'cond wait')], result.stdout
    names = [line.split('  ')[0].strip() for line in result.stdout.splitlines() if line.startswith('\t')]
    assert names.index('await_reply') + 1 == names.index('handle_request') and names.index('await_reply') > 0, 'leaf first'
    assert failures[0].get('name').startswith('await_reply [cond wait] ')
    assert failures[0].find('failure').get('message') == '20 threads more: 1 before, 21 after'
    assert '\nhandle_request  ' in failures[0].find('failure').text


@contextlib.contextmanager
def between_snapshots(profd, seconds, process):
    """`profd leaks` of it, which has taken its first snapshot, and waits; its result when all is done."""
    with subprocess.Popen([profd, 'leaks', '--seconds', str(seconds), str(process.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as running:
        deadline = time.monotonic() + 120
        while True:
            with open(f'/proc/{running.pid}/syscall', encoding='ascii') as file:
                if file.read().split()[0] == '230':  # clock_nanosleep(2)
                    break
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.005)
        yield running
        running.out, running.err = running.communicate(timeout=120)


@pytest.mark.parametrize('mode,status', [('leak', 1), ('mended', 0)])
def test_live(profd, helper, mode, status):
    with service(helper, mode) as process:
        request(process)
        wait_for_sleepers(process.pid)
        with between_snapshots(profd, 2, process) as running:
            request(process, 3)
    assert running.returncode == status, running.err
    assert bool(ROW.search(running.out)) == (mode == 'leak'), running.out


def test_limits(profd, pair):
    for arguments, status in [([], 1), (['--max-new', 4], 1), (['--max-new', 5], 0),
                              (['--max-new', 5, '--fail-pattern', '^await_'], 1),
                              (['--max-new', 5, '--fail-pattern', '^await_', '--fail-new', 5], 1),
                              (['--max-new', 5, '--fail-pattern', '^await_', '--fail-new', 6], 0),
                              (['--max-new', 5, '--fail-pattern', '^reply'], 0),
                              (['--ignore', '^nobody$', '--ignore', '^(await|give)_reply$'], 0)]:
        result = leaks(profd, *pair, *arguments)
        assert result.returncode == status and result.stderr == '', (arguments, result)
        rows = ROW.findall(result.stdout)
        assert [row[:3] for row in rows] == ([] if '--ignore' in arguments else [('1', '6', '5')]), result.stdout
        assert all((row[3] == 'LEAK') == (status == 1) for row in rows)


def test_other_runs(profd, helper, pair, tmp_path):
    """Another process's addresses do not matter: there is nothing new in a run like the first."""
    with service(helper, 'leak') as process:
        request(process, 6)
        snapshot(profd, process, tmp_path / 'other.json')
    first, other = json.loads(pair[3].read_text()), json.loads((tmp_path / 'other.json').read_text())
    assert {frame['address'] for stack in first['stacks'] for frame in stack['frames']}.isdisjoint(
        frame['address'] for stack in other['stacks'] for frame in stack['frames'])
    result = leaks(profd, '--before', pair[3], '--after', tmp_path / 'other.json')
    assert result.returncode == 0 and 'grown: 0' in result.stdout, result


def test_creators(profd, pair, tmp_path):
    """Who made a thread is part of what it is, and shown."""
    shot = json.loads(pair[3].read_text())
    main = next(thread for thread in shot['threads'] if thread['tid'] == shot['pid'])
    for thread in shot['threads']:
        if thread is not main:
            thread['created_by'] = {'tid': main['tid'], 'stack': main['stack']}
    (tmp_path / 'created.json').write_text(json.dumps(shot))
    result = leaks(profd, '--before', pair[3], '--after', tmp_path / 'created.json', '--max-new', 9, '--fail-pattern', '^main$')
    assert result.returncode == 1 and ROW.findall(result.stdout)[0][:3] == ('0', '6', '6'), result
    assert '\tcreated by\n' in result.stdout and '\tmain  ' in result.stdout


def test_agents_creators(profd, helper, tmp_path):
    """Under the agent the snapshots, here over HTTP, know who made the threads."""
    with subprocess.Popen([profd, 'run', '-o', os.devnull, '--format', 'folded', '--http', '127.0.0.1:0', '--', helper('target_leaky'), 'leak'],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = re.search(r'http://[0-9.:]+', process.stderr.readline())[0] + '/debug/pprof/goroutine?format=json'
        for name, count in [('before', 1), ('after', 3)]:
            request(process, count)
            with open(f'/proc/{process.pid}/task/{process.pid}/children', encoding='ascii') as file:
                wait_for_sleepers(int(file.read().split()[0]))
            with urllib.request.urlopen(url, timeout=60) as answer:
                (tmp_path / name).write_bytes(answer.read())
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    result = leaks(profd, '--before', tmp_path / 'before', '--after', tmp_path / 'after', '--max-new', 9, '--fail-pattern', '^serve$')
    assert result.returncode == 1 and ROW.findall(result.stdout) == [('1', '4', '3', 'LEAK', 'cond wait')], result
    names = [line.split('  ')[0].strip() for line in result.stdout.splitlines() if line.startswith('\t')]
    assert names.index('await_reply') < names.index('created by') < names.index('serve') < names.index('main'), names


def test_hostile_names(profd, tmp_path):
    """What a terminal or an XML parser would take for its own."""
    shot = {'version': 1, 'threads': [{'tid': 1, 'state': 'read'}], 'stacks': []}
    (tmp_path / 'before.json').write_text(json.dumps(shot))
    shot['threads'] = [{'tid': 1, 'state': '\x1b[2J<b>', 'stack': 1}]
    shot['stacks'] = [{'id': 1, 'frames': [{'function': 'f<int>("&")\x1b\n\x7f\uffff]]>', 'file': '\r\x01'}]}]
    (tmp_path / 'after.json').write_text(json.dumps(shot))
    result = leaks(profd, '--before', tmp_path / 'before.json', '--after', tmp_path / 'after.json', '--junit', tmp_path / 'leaks.xml')
    assert result.returncode == 1 and not re.search('[\x00-\x08\x0b-\x1f\x7f]', result.stdout), result
    case = xml.etree.ElementTree.parse(tmp_path / 'leaks.xml').getroot().find('.//testcase')
    assert case.find('failure').text == 'f<int>("&")???\ufffd]]>  ??\n'
    assert case.get('name').startswith('f<int>("&")\ufffd \ufffd\ufffd]]> [\ufffd[2J<b>] '), case.get('name')


def test_bad_input(profd, pair, tmp_path):
    """One line, and status 2: CI must not take it for a pass, nor for a leak."""
    good, bad = pair[1], tmp_path / 'bad.json'
    whole = good.read_text()
    for text, message in [('', 'not JSON'), ('{}', 'no "version"'), (whole[:-5], 'not JSON'), (whole.replace('"stack":', '"stack":9'), 'there is no stack'),
                          (whole.replace('"tid":', '"tid":99999999999'), 'not from 1 to'),
                          ('{"version":1,"threads":[{"tid":1,"state":"zombie"}],"stacks":[]}', 'no thread lives')]:
        bad.write_text(text)
        for arguments in (['--before', good, '--after', bad], ['--before', bad, '--after', good]):
            result = leaks(profd, *arguments)
            assert result.returncode == 2 and message in result.stderr and result.stderr.count('\n') == 1 and result.stdout == '', result
    for arguments, message in [([], 'which snapshots'), (['--before', good], 'which snapshots'), (['1', '2'], 'either'), ([*pair, '1'], 'either'),
                               ([*pair, '--seconds', '3'], 'either'), (['x'], 'not a number'), (['2000000000'], 'there is no process'),
                               (['--nonsense'], 'unknown option'), (['--before'], 'needs a value'), ([*pair, '--max-new', '-1'], 'not a number'),
                               ([*pair, '--fail-new', '3'], 'needs --fail-pattern'), ([*pair, '--ignore', '('], "--ignore '('"),
                               ([*pair, '--fail-pattern', '[a'], "--fail-pattern '[a'"), ([*pair] + ['--ignore', 'x'] * 65, 'more than 64'),
                               (['--before', good, '--after', tmp_path / 'none'], 'No such file'), (['--before', good, '--after', tmp_path], 'Is a directory'),
                               ([*pair, '--junit', tmp_path / 'none' / 'x'], 'cannot write')]:
        result = leaks(profd, *arguments)
        assert result.returncode == 2 and message in result.stderr and result.stderr.count('\n') == 1, result


def test_process_ends(profd, helper):
    """A process that is gone before the second snapshot has not passed, though we have not waited for it yet."""
    with service(helper, 'leak') as process:
        with between_snapshots(profd, 2, process) as running:
            process.stdin.close()
    assert running.returncode == 2 and running.err == f'profd: process {process.pid} has ended\n', running.err
