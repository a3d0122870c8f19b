# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# waiting.py: until something is so, however busy the machine is: that costs no time where it is so at once. And what a thread does, by /proc.

import os
import time

LONG_S = 120  # for what takes milliseconds


def wait_until(ready, what='it'):
    """Its first answer that is true. what: that is waited for; or a function that tells how things are instead."""
    deadline = time.monotonic() + LONG_S
    while not (answer := ready()):
        assert time.monotonic() < deadline, what() if callable(what) else f'{what} did not come true in {LONG_S} s'
        time.sleep(0.005)
    return answer


def fields_of(pid, tid):
    """From the state on (proc(5): the third)."""
    with open(f'/proc/{pid}/task/{tid}/stat' if tid else f'/proc/{pid}/stat', encoding='utf-8') as file:
        return file.read().rpartition(')')[2].split()


def run_state(pid):
    """Of the main thread: S is asleep, Z has ended."""
    return fields_of(pid, pid)[0]


def cpu_seconds(pid, tid=None):
    """That the process, or one of its threads, has used."""
    return sum(map(int, fields_of(pid, tid)[11:13])) / os.sysconf('SC_CLK_TCK')


def wait_for_cpu_time(seconds, pid, tid=None):
    """Until it has used that much: who only waits for a time may see nobody run on a busy machine."""
    wait_until(lambda: cpu_seconds(pid, tid) >= seconds)
