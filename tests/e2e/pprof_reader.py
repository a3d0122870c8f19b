# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# pprof_reader.py: reads a pprof file from its field numbers (profile.proto), independently of our encoder.

import gzip
import os
import re

ROOTS = ('_start', 'clone3', 'clone', '__clone3', '__clone', '_dl_start_user', '_dl_start')


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def _fields(data):
    """(number, value) of each field; value is an int, or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at:at + size], at + size
            assert len(value) == size, 'cut short'
        else:
            raise AssertionError(f'unexpected wire type {kind}')
        yield key >> 3, value


def _packed(values):
    """A repeated integer, packed or not."""
    for value in values:
        if isinstance(value, int):
            yield value
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            yield number


def _group(data):
    out = {}
    for number, value in _fields(data):
        out.setdefault(number, []).append(value)
    return out


class Sample:
    def __init__(self, stack, values, labels):
        self.stack = stack    # names, root first, inlined frames expanded
        self.values = values
        self.labels = labels


class Profile:
    """samples, comments, sample_types, period, time_ns (since 1970), duration_ns, lines; stacks are names, root first."""

    def __init__(self, data):
        top = _group(data)
        strings = [value.decode('utf-8') for value in top.get(6, [])]
        assert strings[0] == ''
        functions, files = {}, {}
        for raw in top.get(5, []):
            function = _group(raw)
            functions[function[1][0]] = strings[function.get(2, [0])[0]]
            files[function[1][0]] = strings[function.get(4, [0])[0]]
        assert sorted(functions) == list(range(1, len(functions) + 1))
        mappings = {_group(raw)[1][0]: strings[_group(raw).get(5, [0])[0]] for raw in top.get(3, [])}
        locations = {}
        self.lines = set()    # (function, file, line)
        for raw in top.get(4, []):
            location = _group(raw)
            for line in map(_group, location.get(4, [])):
                self.lines.add((functions[line[1][0]], files[line[1][0]], line.get(2, [0])[0]))
            lines = [functions[_group(line)[1][0]] for line in location.get(4, [])]
            # Nobody named it: a file's code, or no file's.
            address, mapping = hex(location.get(3, [0])[0]), mappings.get(location.get(2, [0])[0], '')
            bare = f'{os.path.basename(mapping)}@{address}' if mapping.startswith('/') else address
            locations[location[1][0]] = list(reversed(lines)) or [bare]
        assert sorted(locations) == list(range(1, len(locations) + 1))
        self.sample_types = [strings[_group(raw)[1][0]] for raw in top.get(1, [])]
        self.comments = [strings[i] for i in _packed(top.get(13, []))]
        self.period = top.get(12, [0])[0]
        self.time_ns, self.duration_ns = top.get(9, [0])[0], top.get(10, [0])[0]
        self.build_ids = [strings[_group(raw).get(6, [0])[0]] for raw in top.get(3, [])]
        self.mapping_files = [strings[_group(raw).get(5, [0])[0]] for raw in top.get(3, [])]
        self.samples = []
        for raw in top.get(2, []):
            sample = _group(raw)
            stack = [name for id in reversed(list(_packed(sample.get(1, [])))) for name in locations[id]]
            labels = {}
            for label in map(_group, sample.get(3, [])):
                labels[strings[label[1][0]]] = strings[label[2][0]] if 2 in label else label.get(3, [0])[0]
            values = list(_packed(sample.get(2, [])))
            assert len(values) == len(self.sample_types)
            self.samples.append(Sample(stack, values, labels))

    def cpu_seconds(self):
        return sum(sample.values[1] for sample in self.samples) / 1e9

    def signals(self):
        """How many samples were really taken. Their weights are more: at the tick one may stand for several periods."""
        return next(int(found[1]) for comment in self.comments if (found := re.match(r'samples: (\d+) taken', comment)))

    def share(self, function):
        """Of all CPU time, that in stacks with the function."""
        return sum(s.values[1] for s in self.samples if function in s.stack) / 1e9 / (self.cpu_seconds() or 1)

    def complete(self):
        """The share of samples whose stack is_whole."""
        return sum(s.values[0] for s in self.samples if is_whole(s.stack)) / max(1, sum(s.values[0] for s in self.samples))


def is_whole(stack):
    """Does it reach the outermost frame of its thread? A stripped program's _start has no name: there it is what called
    __libc_start_main."""
    return stack[0] in ROOTS or stack[1:2] and stack[1].startswith('__libc_start_main')


def read(path):
    with gzip.open(path) as file:
        return Profile(file.read())
