# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# trace_readers.py: traces read back by rules that are not our writers': Chrome's JSON by its public document ("Trace Event Format"), and
# Perfetto's protobuf by the public schema's field numbers. Both give the same: tracks, each with its slices, instants and arrows.

import collections
import json
import struct

Slice = collections.namedtuple('Slice', 'name begin end args depth stack end_stack')
Instant = collections.namedtuple('Instant', 'name time args stack')


class Track:
    def __init__(self, process, pid, tid, name):
        self.process, self.pid, self.tid, self.name = process, pid, tid, name
        self.slices, self.instants = [], []
        self.open = []

    def begin(self, name, time, args, stack):
        assert not self.open or time >= self.open[-1][1], 'a slice begins before the one around it'
        self.open.append([name, time, args, stack])

    def end(self, time, args, end_stack):
        assert self.open, 'an end without a beginning'
        name, begin, begin_args, stack = self.open.pop()
        assert time >= begin, 'a slice ends before it begins'
        self.slices.append(Slice(name, begin, time, {**begin_args, **args}, len(self.open), stack, end_stack))

    def named(self, name):
        return sorted((slice for slice in self.slices if slice.name == name), key=lambda slice: slice.begin)

    def enclosing(self, time):
        """The innermost slice around that time."""
        found = [slice for slice in self.slices if slice.begin <= time <= slice.end]
        return max(found, key=lambda slice: slice.depth) if found else None


class Trace:
    def __init__(self):
        self.tracks = []
        self.arrows = []  # (track, time) pairs
        self.notes = ''
        self.start = None

    def track(self, name, pid=None):
        found = [track for track in self.tracks if track.name == name and (pid is None or track.pid == pid)]
        assert len(found) == 1, (name, [(track.name, track.tid) for track in self.tracks])
        return found[0]

    def arrows_to(self, track):
        return [(source, begin, end) for (source, begin), (target, end) in self.arrows if target is track]


# ---- Chrome ---------------------------------------------------------------------------------------------------------------

def no_duplicates(pairs):
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), f'a key is there twice: {keys}'
    return dict(pairs)


def nanoseconds(ts):
    assert isinstance(ts, (int, float)) and not isinstance(ts, bool) and ts >= 0
    return ts * 1000


def not_json(text):
    raise AssertionError(f'{text} is no JSON')


def chrome(path):
    """Strictly: valid JSON without duplicate keys, known phases, each with the fields that it must have, and balanced."""
    with open(path, encoding='utf-8', errors='strict') as file:
        data = json.load(file, object_pairs_hook=no_duplicates, parse_constant=not_json)
    assert set(data) <= {'traceEvents', 'displayTimeUnit', 'otherData', 'stackFrames', 'notes'} and data['displayTimeUnit'] in ('ms', 'ns')
    frames = data['stackFrames']
    for frame in frames.values():
        assert isinstance(frame['name'], str) and (frame.get('parent') is None or frame['parent'] in frames)
    trace, lives, names, processes, flows = Trace(), {}, {}, {}, collections.defaultdict(dict)

    def stack(event):
        found, at = [], event.get('sf')
        while at is not None:
            assert len(found) < 5000, 'a loop of frames'
            found.append(frames[at]['name'])
            at = frames[at].get('parent')
        return found

    for event in data['traceEvents']:
        phase, pid, tid = event['ph'], event['pid'], event['tid']
        assert isinstance(pid, int) and isinstance(tid, int) and phase in 'BEiMsf', event
        assert isinstance(event.get('args', {}), dict)
        if phase == 'M':
            assert event['name'] in ('process_name', 'thread_name')
            table, key = (processes, pid) if event['name'] == 'process_name' else (names, (pid, tid))
            table[key] = event['args']['name']
            if event['name'] == 'thread_name' and key in lives:
                lives[key].name = names[key]
            continue
        time = nanoseconds(event['ts'])
        track = lives.get((pid, tid))
        if track is None or (phase == 'B' and not track.open):
            assert phase == 'B', event
            track = lives[pid, tid] = Track(processes.get(pid), pid, tid, names.get((pid, tid)))
            trace.tracks.append(track)
        if phase == 'B':
            assert event['name'] and event['cat']
            track.begin(event['name'], time, event.get('args', {}), stack(event))
        elif phase == 'E':
            track.end(time, event.get('args', {}), stack(event))
        elif phase == 'i':
            assert event['name'] and event['s'] in 'gpt'
            track.instants.append(Instant(event['name'], time, event.get('args', {}), stack(event)))
        else:
            key = (event['cat'], event['name'], event['id'])
            assert phase != 's' or 's' not in flows[key], 'a flow begins twice'
            flows[key].setdefault(phase, []).append((track, time))
    for track in trace.tracks:
        assert not track.open, 'a slice without an end'
    for ends in flows.values():
        for end in ends.get('f', []):
            (begin,) = ends['s']
            assert begin[1] <= end[1], 'an arrow into the past'
            trace.arrows.append((begin, end))
    trace.notes = data['notes']
    trace.start = int(data['otherData']['start_ns'])
    trace.realtime = int(data['otherData']['realtime_ns'])
    return trace


# ---- Perfetto -------------------------------------------------------------------------------------------------------------

def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7f) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
        assert shift < 70


def fields(data):
    """Field number → values: ints, or bytes."""
    found, at = collections.defaultdict(list), 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 1:
            value, at = struct.unpack_from('<Q', data, at)[0], at + 8
        else:
            assert key & 7 == 2, f'wire type {key & 7}'
            size, at = varint(data, at)
            assert at + size <= len(data)
            value, at = data[at:at + size], at + size
        found[key >> 3].append(value)
    return found


def one(message, number, otherwise=None):
    assert len(message[number]) <= 1, f'field {number} is there {len(message[number])} times'
    return message[number][0] if message[number] else otherwise


def perfetto(path):
    """trace_packet.proto, track_event.proto, track_descriptor.proto, interned_data.proto, profile_common.proto."""
    with open(path, 'rb') as file:
        packets = [fields(packet) for packet in fields(file.read())[1]]
    trace, tracks, processes = Trace(), {}, {}
    interned = collections.defaultdict(dict)  # field of InternedData → iid → entry
    flows = collections.defaultdict(list)
    ends = []
    late = {}  # what a mapping's addresses are called, told at the end: (path, address) → function
    for symbols in (fields(one(packet, 61)) for packet in packets if packet[61]):
        assert symbols[3]
        for address in map(fields, symbols[3]):
            (line,) = map(fields, address[2])
            assert (one(symbols, 1), one(address, 1)) not in late, 'named twice'
            late[one(symbols, 1), one(address, 1)] = one(line, 1).decode()
    first = packets[0]
    assert one(first, 13) == 1 and one(first, 87) == 1, 'the first packet clears the state'
    assert one(fields(one(first, 59)), 58) == 3, 'times are CLOCK_MONOTONIC'
    clocks = fields(one(first, 6))
    assert one(clocks, 2) == 3
    clocks = {one(fields(clock), 1): one(fields(clock), 2) for clock in clocks[1]}
    trace.start, trace.realtime = clocks[3], clocks[1]

    def stack(event):
        iid = one(event, 56)
        if iid is None:
            return []
        frames = [interned[6][frame] for frame in interned[7][iid][2]]
        return [name_of(frame) for frame in reversed(frames)]

    def name_of(frame):
        if frame[3]:
            path = b'/' + b'/'.join(interned[17][number] for number in interned[19][one(frame, 3)][7])
            if (path, one(frame, 4)) in late:
                return late[path, one(frame, 4)]
        return interned[5][one(frame, 2)]

    def annotations(event):
        found = {}
        for annotation in map(fields, event[4]):
            found[one(annotation, 10).decode()] = next(one(annotation, kind) for kind in (3, 6, 7) if annotation[kind])
        return found

    for number, packet in enumerate(packets):
        assert one(packet, 10) == 1 and (number == 0 or one(packet, 13) == 2)
        if packet[12]:
            for field, entries in fields(one(packet, 12)).items():
                for entry in map(fields, entries):
                    assert one(entry, 1) not in interned[field], 'interned twice'
                    interned[field][one(entry, 1)] = one(entry, 2).decode() if field in (1, 2, 5, 18) else \
                        one(entry, 2) if field == 17 else entry
        if packet[60]:
            descriptor = fields(one(packet, 60))
            uuid = one(descriptor, 1)
            if descriptor[3]:
                processes[uuid] = one(fields(one(descriptor, 3)), 6).decode()
            else:
                thread = fields(one(descriptor, 4))
                name = one(thread, 5).decode()
                if uuid in tracks:
                    tracks[uuid].name = name
                else:
                    tracks[uuid] = Track(processes[one(descriptor, 5)], one(thread, 1), one(thread, 2), name)
                    trace.tracks.append(tracks[uuid])
        if not packet[11]:
            continue
        event, time = fields(one(packet, 11)), one(packet, 8)
        kind, uuid = one(event, 9), one(event, 11)
        name = interned[2][one(event, 10)] if event[10] else None
        assert kind == 2 or interned[1][one(event, 3)]
        if uuid is None:
            trace.notes = annotations(event)['notes'].decode()
            continue
        track = tracks[uuid]
        if kind == 1:
            track.begin(name, time, annotations(event), stack(event))
        elif kind == 2:
            track.end(time, annotations(event), stack(event))
        else:
            assert kind == 3
            track.instants.append(Instant(name, time, annotations(event), stack(event)))
        for flow in event[47]:
            assert not flows[flow], 'a flow begins twice'
            flows[flow].append((track, time))
        ends += [(flow, (track, time)) for flow in event[48]]
    for flow, end in ends:
        (begin,) = flows[flow]
        assert begin[1] <= end[1], 'an arrow into the past'
        trace.arrows.append((begin, end))
    for track in trace.tracks:
        assert not track.open
    return trace
