# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_terminal.py: `profd run` between a shell, a terminal and its command: to both sides it is as if profd were not there. The test
# plays the shell: it opens a pseudo-terminal, gives profd a process group of its own, and types.

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

import pytest

from conftest import PROFD
from real_programs import own_children
from waiting import wait_until

# A child that says what it gets. Busy, so that it is sampled.
CHILD = r'''
import os, signal, sys, time
def got(number, frame):
    os.write(1, f"got {signal.Signals(number).name}\n".encode())
    if number in (signal.SIGINT, signal.SIGTERM):
        sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCONT, signal.SIGWINCH):
    signal.signal(number, got)
os.write(1, f"pid {os.getpid()} {os.getppid()} {os.getpgrp()}\n".encode())  # print is not for signal handlers
while True:
    sum(range(10000))
'''


class Job:
    """profd run as a shell's foreground job on a terminal of its own."""

    def __init__(self, *arguments):
        self.master, slave = pty.openpty()
        self.seen = ''
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()  # the session's leader plays the shell
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
                for fd in (0, 1, 2):
                    os.dup2(slave, fd)
                self.run_shell(arguments)
            finally:
                os._exit(99)
        os.close(slave)

    @staticmethod
    def run_shell(arguments):
        """Starts the job, reports each change of its state on fd 9, brings it back to the foreground on SIGUSR2."""
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGQUIT):  # ignored where the tests run in the background
            signal.signal(number, signal.SIG_DFL)
        job = os.fork()
        if job == 0:
            os.setpgid(0, 0)
            os.tcsetpgrp(0, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            os.execv(PROFD, [PROFD, 'run', *arguments])

        def resume(_number, _frame):
            os.tcsetpgrp(0, job)
            os.kill(-job, signal.SIGCONT)
        signal.signal(signal.SIGUSR2, resume)
        while True:
            _, status = os.waitpid(job, os.WUNTRACED)
            os.tcsetpgrp(0, os.getpgrp())
            if os.WIFSTOPPED(status):
                os.write(1, b'[stopped]\n')
            else:
                code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
                os.write(1, f'[exit {code}]\n'.encode())
                os._exit(0)

    def wait_for(self, pattern, seconds=120):
        deadline = time.monotonic() + seconds
        while True:
            match = re.search(pattern, self.seen)
            if match:
                return match
            if time.monotonic() > deadline:
                pytest.fail(f'{pattern!r} did not come; the terminal shows {self.seen!r}')
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors='replace')
                except OSError:  # the terminal's other side is closed
                    time.sleep(0.05)

    def forget(self):
        self.seen = ''

    def type(self, text):
        os.write(self.master, text.encode())

    def close(self):
        os.close(self.master)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)


@pytest.fixture
def job(tmp_path):
    jobs = []

    def start(*command, options=('-o',)):
        jobs.append(Job(*options, str(tmp_path / 'out.folded'), '--', *command))
        return jobs[-1]
    yield start
    for one in jobs:
        one.close()


def name_of(pid):
    try:
        with open(f'/proc/{pid}/comm') as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ''


def state_of(pid):
    with open(f'/proc/{pid}/stat') as file:
        return file.read().rsplit(')', 1)[1].split()[0]


def wait_for_profd(one):
    """The shell's job has the terminal, and is profd by now. Without a pause: what comes then takes it milliseconds."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        group = os.tcgetpgrp(one.master)
        try:
            if group not in (0, one.pid) and os.readlink(f'/proc/{group}/exe') == os.path.realpath(PROFD):
                return
        except FileNotFoundError:
            pass
    pytest.fail('profd did not start')


def start_child(job):
    one = job('python3', '-c', CHILD)
    child, parent, group = (int(n) for n in one.wait_for(r'pid (\d+) (\d+) (\d+)').groups())
    assert group == parent  # profd's own group is the command's: the terminal's signals reach both
    return one, child, parent


def test_ctrl_c_is_the_commands(job, tmp_path):
    one, _, _ = start_child(job)
    one.type('\x03')
    one.wait_for('got SIGINT')
    one.wait_for(r'\[exit 7\]')
    assert one.seen.count('got SIGINT') == 1
    assert len(re.findall(r'profd: \d+ samples?', one.seen)) >= 1
    assert (tmp_path / 'out.folded').exists()


def test_killed_by_ctrl_c(job, tmp_path):
    one = job('sleep', '600')
    wait_for_profd(one)
    parent = os.tcgetpgrp(one.master)
    wait_until(lambda: any(name_of(child) == 'sleep' for child in own_children(parent)), what='the command')
    one.type('\x03\x03')
    one.wait_for(r'\[exit 130\]')
    assert 'died of signal 2' in one.seen


def test_ctrl_c_at_the_start(job):
    """At any moment, before there is a command, too, it ends both: profd by itself, or as the command that it is told to."""
    jobs = []
    for i in range(24):
        one = job('sleep', '600')
        wait_for_profd(one)
        time.sleep(i * 0.0003)
        one.type('\x03')
        jobs.append(one)
    for one in jobs:
        one.wait_for(r'\[exit (130|-2)\]')


def test_stop_and_go_on(job):
    one, child, parent = start_child(job)
    one.type('\x1a')
    one.wait_for(r'\[stopped\]')
    wait_until(lambda: state_of(child) == 'T' and state_of(parent) == 'T', what='both stopped')
    time.sleep(0.1)
    assert state_of(child) == 'T' and state_of(parent) == 'T'  # and stay so
    one.forget()
    os.kill(one.pid, signal.SIGUSR2)  # "fg"
    one.wait_for('got SIGCONT')
    # profd is told that it goes on as well, and passes that on: not before it waits again, or it would undo the next stop.
    wait_until(lambda: state_of(child) in 'RS' and state_of(parent) == 'S', what='both at work')
    one.forget()
    one.type('\x1a')  # and once more
    one.wait_for(r'\[stopped\]')
    one.forget()
    os.kill(one.pid, signal.SIGUSR2)
    one.wait_for('got SIGCONT')
    wait_until(lambda: state_of(parent) == 'S', what='profd at work')
    one.type('\x03')
    one.wait_for(r'\[exit 7\]')


def test_stopped_by_another_process_only(job):
    """kill -STOP of the command is between these two: profd goes on."""
    one, child, parent = start_child(job)
    os.kill(child, signal.SIGSTOP)
    wait_until(lambda: state_of(child) == 'T', what='the stop')
    time.sleep(0.3)
    assert state_of(parent) != 'T'
    os.kill(child, signal.SIGCONT)
    one.type('\x03')
    one.wait_for(r'\[exit 7\]')


def test_progress_line(job):
    one, _, _ = start_child(job)
    one.wait_for(r'\rprofd: \d+ s, \d+ samples?, \d+ threads?\x1b\[K')
    one.forget()
    one.type('\x03')
    one.wait_for(r'\[exit 7\]')
    assert '\r\x1b[K' in one.seen  # erased
    last = one.seen.rsplit('\r\x1b[K', 1)[1]
    assert len(re.findall(r'^profd: \d+ samples.*wrote ', last, re.M)) == 1


def test_no_progress_over_a_full_screen_program(job):
    one = job('python3', '-c', 'import tty, time; tty.setraw(0); print("raw", flush=True); time.sleep(2.5); print("end")')
    one.wait_for('end')
    assert ' s, ' not in one.seen.split('raw')[1]  # a slow machine's python may begin after the first one


def test_window_size(job):
    one, _, _ = start_child(job)
    fcntl.ioctl(one.master, termios.TIOCSWINSZ, b'\x30\x00\x60\x00\x00\x00\x00\x00')
    one.wait_for('got SIGWINCH')
    one.type('\x03')
    one.wait_for(r'\[exit 7\]')
    assert one.seen.count('got SIGWINCH') == 1


# ---- Without a terminal ------------------------------------------------------------------------------------------------

def run(*arguments, **options):
    return subprocess.run([PROFD, 'run', *arguments], capture_output=True, text=True, timeout=300, **options)


def start_piped(tmp_path):
    process = subprocess.Popen([PROFD, 'run', '-o', str(tmp_path / 'out.folded'), '--', 'python3', '-c', CHILD],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith('pid ')
    return process


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_sent_to_profd_reach_the_command(tmp_path, number):
    process = start_piped(tmp_path)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == 'got SIGUSR1\n'
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == 'got SIGHUP\n'
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert out == f'got {number.name}\n'
    assert process.returncode == 7
    assert '\r' not in err and len(err.splitlines()) == 1
    assert (tmp_path / 'out.folded').exists()


def test_exit_statuses(tmp_path):
    out = ['-o', str(tmp_path / 'x.folded')]
    assert run(*out, '--', 'sh', '-c', 'exit 3').returncode == 3
    assert run(*out, '--', 'sh', '-c', 'kill -KILL $$').returncode == 128 + 9
    assert run(*out, '--', 'sh', '-c', 'kill -SEGV $$').returncode == 128 + 11
    assert run(*out, '--', '/nonexistent').returncode == 127
    assert run(*out, '--', '/etc/passwd').returncode == 126
    assert run('--nonsense').returncode == 125
    assert run('-o', str(tmp_path / 'none/x.svg'), '--', 'true').returncode == 125


def test_streams_are_the_commands(tmp_path):
    result = run('-o', str(tmp_path / 'x.folded'), '--', 'cat', input='hello\n')
    assert result.stdout == 'hello\n'
    assert len(result.stderr.splitlines()) == 1


def test_closed_descriptors_stay_closed(tmp_path):
    for fd in (0, 1, 2):
        result = subprocess.run(f"exec {fd}>&-; exec '{PROFD}' run -o '{tmp_path}/x.folded' -- sh -c '[ ! -e /proc/self/fd/{fd} ]'",
                                shell=True, capture_output=True, text=True)
        assert result.returncode == 0


def test_output_that_cannot_be_written_is_kept(tmp_path):
    (tmp_path / 'x.folded').write_text('old\n')
    result = run('-o', '/dev/full', '--format', 'folded', '-o', str(tmp_path / 'x.folded'), '--', 'sh', '-c',
                 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done')
    assert result.returncode == 125
    assert 'cannot write /dev/full: No space left on device' in result.stderr
    assert (tmp_path / 'x.folded').read_text() != 'old\n'
    assert os.listdir(tmp_path) == ['x.folded']


def test_ignored_hangup_stays_ignored(tmp_path):
    result = run('-o', str(tmp_path / 'x.folded'), '--', 'sh', '-c', 'kill -HUP $$; echo alive',
                 preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert result.stdout == 'alive\n'
    assert result.returncode == 0
