# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_labels.py: labels and traces on samples, whether set by profd.h or published as OpenTelemetry's SDKs do; filters and groups by them.

import json
import os
import re
import subprocess
import urllib.request

import pytest

import pprof_reader
from test_heap import served  # pylint: disable=unused-import
from test_programs import free_port
from waiting import wait_until

TRACE = {'trace_id': '4bf92f3577b34da6a3ce929d0e0e4736', 'span_id': '00f067aa0ba902b7'}
OURS = {'thread_id', 'thread_name', 'process_id', 'service.name'}


def labels_in(profile, function):
    """The program's labels on samples with the function: each set, and what share of its CPU time it has."""
    shares, whole = {}, 0
    for sample in profile.samples:
        if function in sample.stack:
            key = tuple(sorted((key, value) for key, value in sample.labels.items() if key not in OURS))
            shares[key] = shares.get(key, 0) + sample.values[1]
            whole += sample.values[1]
    assert whole > 0
    # A sample is taken at the tick that follows: one at each change may be the next function's.
    return {dict_key: share for dict_key, share in shares.items() if share > whole * 0.05}


def only(**labels):
    return {tuple(sorted(labels.items()))}


@pytest.fixture
def labelled(same, helper):
    def do(case, *options):
        return same(helper('target_labels'), case, rate=250, options=options).profile
    return do


def test_nested(labelled):
    profile = labelled('nested')
    assert set(labels_in(profile, 'without_label')) == only()
    assert set(labels_in(profile, 'with_a')) == only(endpoint='a')
    assert set(labels_in(profile, 'with_b')) == only(endpoint='b', tenant='big')


def test_links(labelled):
    profile = labelled('links')
    assert set(labels_in(profile, 'with_a')) == only(endpoint='a', trace_sampled='1', **TRACE)
    assert set(labels_in(profile, 'without_label')) == only()


def test_too_deep_is_balanced(labelled):
    profile = labelled('deep')
    assert set(labels_in(profile, 'with_a')) == only(endpoint='a')
    assert set(labels_in(profile, 'without_label')) == only()


def test_traces_do_not_fill_the_pool(labelled):
    assert set(labels_in(labelled('many'), 'with_a')) == only(endpoint='a')


def test_flood_is_counted(labelled):
    profile = labelled('flood')
    assert set(labels_in(profile, 'with_a')) == only(endpoint='a')
    lost, = [comment for comment in profile.comments if comment.startswith('no room since the start: ')]
    assert 80000 < int(lost.split()[-1]) < 100000
    # Nobody has the value of a set that found room long ago.
    assert set(labels_in(profile, 'with_b')) == only(endpoint='a', request='(no room)')
    assert any(comment.startswith('labels lost have the value (no room): ') for comment in profile.comments)


def test_flood_in_metrics(served, helper):
    target = served('--', helper('target_labels'), 'flood', 'wait')
    wait_until(lambda: b'profd_pool_lost_total{what="labels"} 0\n' not in target.get('/metrics')[1])
    metrics = target.get('/metrics')[1].decode()
    assert 80000 < int(re.search(r'profd_pool_lost_total\{what="labels"\} (\d+)\n', metrics)[1]) < 100000
    assert 'profd_pool_lost_total{what="contexts"} 0\n' in metrics


def test_limits(labelled):
    labels, = labels_in(labelled('limits'), 'with_a')
    labels = dict(labels)
    assert labels.pop('trace_id') == TRACE['trace_id'] and labels.pop('span_id') == TRACE['span_id']
    # Cut to 63 bytes; what would end a label is replaced.
    assert labels.pop('key7') == 'a value with_a "quote", and of more bytes than the sixty-three t'[:63]
    assert labels == {f'key{i}': 'value' for i in range(7)}


def test_in_handlers(labelled):
    profile = labelled('handler')
    assert set(labels_in(profile, 'without_label')) == only()
    allowed = {'endpoint', 'in', 'trace_id', 'span_id', 'trace_sampled'}
    for sample in profile.samples:
        labels = {key: value for key, value in sample.labels.items() if key not in OURS}
        assert set(labels) <= allowed
        # Never half of one trace and half of another.
        assert labels.get('trace_id') in (None, TRACE['trace_id'], '2a' * 16), labels
        assert labels.get('span_id') == {None: None, TRACE['trace_id']: TRACE['span_id'], '2a' * 16: '2a' * 8}[labels.get('trace_id')]


def test_filter_and_group(labelled):
    wanted = labelled('nested', '--label', 'endpoint=a')
    assert {sample.labels.get('endpoint') for sample in wanted.samples} == {'a'}
    assert wanted.share('with_a') > 0.9
    assert any(comment.startswith('not shown: ') for comment in wanted.comments)
    grouped = labelled('nested', '--group', 'endpoint')
    roots = {sample.stack[0] for sample in grouped.samples}
    assert roots == {'endpoint=a', 'endpoint=b', 'endpoint='}
    assert all(sample.stack[0] == 'endpoint=' + sample.labels.get('endpoint', '') for sample in grouped.samples)
    assert '[label]' in grouped.mapping_files


def test_opentelemetry(labelled):
    profile = labelled('otel')
    assert set(labels_in(profile, 'with_trace')) == only(**TRACE)
    assert set(labels_in(profile, 'with_a')) == only(trace_sampled='1', **TRACE)
    assert set(labels_in(profile, 'without_label')) == only()
    assert any(comment.startswith('service.name: shop (process ') for comment in profile.comments)
    assert {sample.labels.get('service.name') for sample in profile.samples} == {'shop'}


def test_opentelemetry_in_a_library(same, helper):
    """Each thread has its own."""
    profile = same(helper('target_otel'), rate=250).profile
    for name, digits in (('one', '01'), ('two', '02')):
        spans = {(sample.labels.get('trace_id'), sample.labels.get('span_id')) for sample in profile.samples
                 if 'with_span' in sample.stack and sample.labels['thread_name'] == name}
        assert spans == {(digits * 16, digits * 8)}


def test_sampled_only(labelled):
    profile = labelled('otel', '--sampled-only')
    assert profile.share('with_a') > 0.9
    assert all(sample.labels['trace_sampled'] == '1' for sample in profile.samples)


def span(digits, sampled=False):
    return {'trace_id': digits * 16, 'span_id': digits * 8} | ({'trace_sampled': '1'} if sampled else {})


# What another says of a thread than its record is left out; "own" has one that is not valid, and then what it told the agent counts.
WAITING = {'plain': span('11'), 'sampled': span('22', True), 'changing': None, 'nowhere': None, 'both': span('55'), 'own': span('88', True),
           'target_otel': span('99')}


def test_opentelemetry_in_dumps(served, profd, helper):
    target = served('--', helper('target_otel'), 'wait')

    def labels_of(text):
        return {thread['name']: thread.get('labels') for thread in json.loads(text)['threads']}

    def get(query):
        return target.get('/debug/pprof/goroutine?' + query)[1].decode()

    assert labels_of(get('format=json')) == WAITING
    assert labels_of(get('format=json&label=trace_id=' + '55' * 16)) == {'both': span('55')}
    assert set(labels_of(get('format=json&sampled_only=1'))) == {'sampled', 'own'}
    roots = {line.split(';')[0] for line in get('format=folded&group=span_id').splitlines()}
    assert roots == {'span_id=', *(f'span_id={labels["span_id"]}' for labels in WAITING.values() if labels)}
    assert get('debug=2&sampled_only=1').count('\ngoroutine ') + 1 == 2
    target.process.stdin.write('\n')  # who waited all the while has another span
    target.process.stdin.flush()
    assert target.process.stdout.readline() == 'changed\n'
    now = WAITING | {'plain': {'trace_id': '11' * 16, 'span_id': 'aa' * 8}}
    assert labels_of(get('format=json')) == now
    pid = int(re.search(r'"pid":\s*(\d+)', get('format=json'))[1])
    assert labels_of(subprocess.run([profd, 'dump', '--json', str(pid)], check=True, capture_output=True, timeout=60).stdout) == now


def test_opentelemetry_in_wall_samples(served, helper):
    """Whether the thread waits or runs."""
    target = served('--', helper('target_otel'), 'wait')
    profile = target.profile('/debug/pprof/wall?seconds=1')
    by_thread = {}
    for sample in profile.samples:
        by_thread.setdefault(sample.labels['thread_name'], set()).add((sample.labels.get('trace_id'), sample.labels.get('trace_sampled')))
    assert by_thread == {name: {((labels or {}).get('trace_id'), (labels or {}).get('trace_sampled'))} for name, labels in WAITING.items()}
    only_sampled = target.profile('/debug/pprof/wall?seconds=1&sampled_only=1')
    assert {sample.labels['thread_name'] for sample in only_sampled.samples} == {'sampled', 'own'}


# ---- Memory and locks: traces are no part of what is counted, and each sample has its own ---------------------------------------------------------------

OTHER = '2a' * 16


def by_trace(profile, function):
    """trace id (None: none) → the sums of the values of samples with the function."""
    sums = {}
    for sample in profile.samples:
        if function in sample.stack:
            key = sample.labels.get('trace_id')
            sums[key] = [a + b for a, b in zip(sums.get(key, [0] * 4), sample.values)]
    return sums


def test_memory(served, helper):
    target = served('--heap=1', '--mutex', '--block=1', '--', helper('target_labels'), 'memory')
    known = {None: [4, 4000, 4, 4000], OTHER: [3, 3000, 3, 3000], TRACE['trace_id']: [10, 10000, 10, 10000]}
    profile = target.profile('/debug/pprof/heap')
    assert by_trace(profile, 'keep_blocks') == known
    assert by_trace(profile, 'drop_blocks') == {TRACE['trace_id']: [5, 1500, 0, 0]}
    sampled, = [sample.labels for sample in profile.samples if 'keep_blocks' in sample.stack and 'trace_sampled' in sample.labels]
    assert sampled == {'bytes': 1000, 'trace_sampled': '1', **TRACE}
    assert not any('traces were not kept' in comment for comment in profile.comments)
    wanted = target.profile('/debug/pprof/allocs?sampled_only=1')
    assert {sample.labels['trace_id'] for sample in wanted.samples} == {TRACE['trace_id']}
    assert by_trace(wanted, 'keep_blocks') == {TRACE['trace_id']: known[TRACE['trace_id']]}
    wanted = target.profile(f'/debug/pprof/heap?label=trace_id={OTHER}&causal=1')
    assert by_trace(wanted, 'keep_blocks') == {OTHER: known[OTHER]}
    assert {sample.labels['trace_id'] for sample in wanted.samples} == {OTHER}
    folded = target.get('/debug/pprof/heap?format=folded&group=trace_id')[1].decode()
    assert sorted((line.split(';')[0], line.split()[-1]) for line in folded.splitlines() if ';keep_blocks ' in line) == [
        ('trace_id=', '4000'), (f'trace_id={OTHER}', '3000'), (f'trace_id={TRACE["trace_id"]}', '10000')]
    text = target.get('/debug/pprof/heap?debug=1')[1].decode()
    assert len(re.findall(r'\n17: 17000 \[17: 17000\] @', text)) == 1 # one stack is one entry there, whatever traces it has
    assert len(re.findall(r'\n10: 10000 \[10: 10000\] @', target.get('/debug/pprof/heap?debug=1&sampled_only=1')[1].decode())) == 1
    assert b'profd_store_traces_lost_total 0\n' in target.get('/metrics')[1]


def test_locks(served, helper):
    target = served('--mutex', '--block=1', '--', helper('target_labels'), 'memory')
    profile = target.profile('/debug/pprof/mutex')
    (trace, (contentions, delay)), = by_trace(profile, 'give_lock').items()
    assert trace == TRACE['trace_id'] and contentions == 1 and delay > 5e6
    profile = target.profile('/debug/pprof/block')
    (trace, (contentions, delay)), = by_trace(profile, 'wait_for_lock').items()
    assert trace == OTHER and contentions == 1 and delay > 5e6
    assert target.profile('/debug/pprof/block?sampled_only=1&label=wait=mutex').samples == []
    assert b'trace_id' not in target.get('/debug/pprof/mutex?debug=1')[1]
    assert len(target.profile('/debug/pprof/mutex?sampled_only=1').samples) == 1


def test_memory_of_a_run(profd, helper, tmp_path):
    output = str(tmp_path / 'heap.pb.gz')
    subprocess.run([profd, 'run', '--heap=1', '-o', output, '--group', 'trace_id', '--', helper('target_otel')], check=True, timeout=120)
    profile = pprof_reader.read(output)
    assert by_trace(profile, 'keep_blocks') == {digits * 16: [20, 10000, 20, 10000] for digits in ('01', '02')}
    assert {sample.stack[0] for sample in profile.samples if 'keep_blocks' in sample.stack} == {'trace_id=' + '01' * 16, 'trace_id=' + '02' * 16}


def test_waiting_threads(agent, helper):
    port = free_port()
    process = subprocess.Popen([helper('target_labels'), 'wait'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env=dict(os.environ, LD_PRELOAD=agent, PROFD_HTTP=f'127.0.0.1:{port}'))
    assert process.stdout.readline() == 'ready\n'

    def get(path):
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/debug/pprof/{path}', timeout=60) as answer:
            return answer.read().decode()

    shot = json.loads(get('goroutine?format=json'))
    assert {thread['name']: thread.get('labels') for thread in shot['threads']} == {
        'target_labels': None, 'labelled': dict(TRACE, endpoint='a', trace_sampled='1')}
    # In Go's text, too; the trace would make a group of each request there.
    labels = re.findall('^# labels: (.*)$', get('goroutine?debug=1'), re.M)
    assert len(labels) == 2 and all(text.startswith('{"state":"') for text in labels)
    assert [text for text in labels if 'endpoint' in text] == ['{"state":"pause", "endpoint":"a"}']
    shot = json.loads(get('goroutine?format=json&label=endpoint=a'))
    assert [thread['name'] for thread in shot['threads']] == ['labelled']
    shot = json.loads(get('goroutine?format=json&sampled_only=1'))
    assert [thread['name'] for thread in shot['threads']] == ['labelled']
    lines = get('goroutine?format=folded&group=endpoint').splitlines()
    assert sorted(line.split(';')[0] for line in lines) == ['endpoint=', 'endpoint=a']
    process.stdin.close()
    process.wait(timeout=60)
