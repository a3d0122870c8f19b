# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
#
# test_readers.py: what make_profile wrote, read back by parsers that are not ours: go tool pprof, npm's pprof-format and speedscope,
# and flamegraph.pl's grammar, restated here.

import base64
import gzip
import json
import os
import re
import subprocess

import pytest

from browser import CHROMIUM, Browser
from waiting import wait_until

# What make_profile puts under main, sample i being taken i + 1 times; as bytes, as some are not UTF-8.
ODD_NAMES = [b'say "hi" \\ back', b'semi;colon', b'new\nline\ttab', 'grüße 函数 😀'.encode(), b'bad\xff\xe2\x82 utf8',
             b"<script>document.title='pwned'</script>&amp;", b'count 12', b'std::map<int, std::string>::find(int const&) const']
THREADS = [b'main', b'worker 1', b'wor;ker\n2', b'bad\xff']
EXE = '/usr/bin/odd "quoted" program'
TOTAL = sum(range(1, 9)) + 100 + 50 + 25 + 10


def text(data):
    return data.decode('utf-8', 'replace')


def expected_samples():
    """(stack, count, thread) of each sample: names root first, inlined calls expanded; None: a frame without a name."""
    result = [(['main', text(name)], i + 1, (100 + i % 4, text(THREADS[i % 4]))) for i, name in enumerate(ODD_NAMES)]
    inlined = ['main', 'outer', 'middle_inline', 'inner_inline']
    result.append((inlined, 100, (100, 'main')))
    result.append((inlined + [None], 50, (101, 'worker 1')))
    result.append(([None], 25, None))
    result.append((['main'] + ['recurse'] * 599, 10, (100, 'main')))
    return result


@pytest.fixture(scope='module')
def made(helper, tmp_path_factory):
    """Writes the profile in a format; the file's path."""
    directory = tmp_path_factory.mktemp('made')

    def make(name):
        path = directory / ('odd.' + name)
        if not path.exists():
            with open(path, 'wb') as out:
                subprocess.run([helper('make_profile'), name], stdout=out, check=True, timeout=300)
        return str(path)

    return make


# ---- go tool pprof -------------------------------------------------------------------------------------------------------

@pytest.fixture
def pprof(go, made, tmp_path):
    """go tool pprof over our file (or others); it must have nothing to complain about."""
    def run(*options, files=None):
        result = subprocess.run([go, 'tool', 'pprof', '-symbolize=none', *options, *(files or [made('pprof')])],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=dict(os.environ, PPROF_TMPDIR=str(tmp_path)), timeout=300, check=False)
        errors = re.sub(rb"tagfocus:Interpreted '\d+' as range, not regexp\n", b'', result.stderr)
        assert (result.returncode, errors) == (0, b'')
        return result.stdout.decode()

    return run


def test_go_raw(pprof):
    out = pprof('-raw')
    assert 'PeriodType: cpu nanoseconds\nPeriod: 10000000\nTime: 2023-11-14 22:13:20 +0000 UTC\nDuration: 30s\n' in out
    assert 'Comment: rate: 100 Hz asked, 99.8 Hz reached\nComment: bad \ufffd comment; "quoted"\n' in out
    assert 'samples/count cpu/nanoseconds[dflt]\n' in out
    # The ids are pprof's own: some versions number anew.
    ids = {int(match[2], 16): match[1] for match in re.finditer(r'^ +(\d+): (0x[0-9a-f]+)', out, re.M)}
    main, inlined, bare, recurse = ids[0x400010], ids[0x400200], ids[0x7f0000000123], ids[0x400300]
    assert len(ids) == len(ODD_NAMES) + 5
    assert re.search(rf'\n +100 +1000000000: {inlined} {main} *\n +thread_name:\[main\]\n +thread_id:\[100\]\n', out)
    assert re.search(rf'\n +50 +500000000: {bare} {inlined} {main} *\n', out)
    assert re.search(rf'\n +25 +250000000: {ids[0x1234]} *\n', out)
    assert re.search(rf'\n +10 +100000000: ({recurse} ){{599}}{main} *\n', out)
    # Inlined calls: three lines of one location, the innermost first.
    assert re.search(r'\n +\d+: 0x400200 M=1 inner_inline /src/inline\.h:7(:0)? s=2\n'
                     r' +middle_inline /src/inline\.h:17(:0)? s=12\n +outer /src/outer\.c:77(:0)? s=72\n', out)
    assert re.search(r': 0x7f0000000123 M=2 *\n', out)
    assert ('\n1: 0x400000/0x500000/0x1000 /usr/bin/odd "quoted" program 0123456789abcdef0123456789abcdef01234567'
            ' [FN][FL][LN][IN]\n2: 0x7f0000000000/0x7f0000100000/0x1000 /usr/lib/lib\ufffd.so.1') in out
    for i, name in enumerate(ODD_NAMES):
        assert f': {0x400100 + i:#x} M=1 {text(name)} /src/odd "file".c:{100 + i}' in out


def test_go_top(pprof):
    out = pprof('-top', '-sample_index=samples', '-nodefraction=0')
    assert f'of {TOTAL} total' in out
    rows = {match[3]: (int(match[1]), int(match[2]))
            for match in re.finditer(r'^ +(\d+) +[\d.]+% +[\d.]+% +(\d+) +[\d.]+% +(.+)$', out, re.M)}
    assert rows['inner_inline (inline)'] == (100, 150)
    assert rows['middle_inline (inline)'] == (0, 150)
    assert rows['outer'] == (0, 150)
    assert rows['main'] == (0, TOTAL - 25)
    assert rows['recurse'] == (10, 10)
    for i, name in enumerate(ODD_NAMES):
        if b'\n' not in name:
            assert rows[text(name)] == (i + 1, i + 1)


def test_go_default_sample_type(pprof):
    assert f'Total samples = {TOTAL / 100}s' in pprof('-top')


def test_go_peek(pprof):
    out = pprof('-peek=^middle_inline$', '-sample_index=samples')
    assert re.search(r'\n +150 +100% \| +outer( \(inline\))?\n +0 +0% +[\d.]+% +150 +[\d.]+% +\| middle_inline\n'
                     r' +150 +100% \| +inner_inline \(inline\)\n', out)


def test_go_labels(pprof):
    focused = pprof('-top', '-sample_index=samples', '-tagfocus=thread_name=^main$', '-nodefraction=0')
    assert f'Showing nodes accounting for {100 + 1 + 5 + 10}, ' in focused
    focused = pprof('-top', '-sample_index=samples', '-tagfocus=thread_id=101', '-nodefraction=0')
    assert f'Showing nodes accounting for {50 + 2 + 6}, ' in focused
    tags = pprof('-tags', '-sample_index=samples')
    assert re.search(r'\n +thread_name: Total 196(\.0)?(\s|$)', tags), tags
    assert re.search(r'\n +58(\.0)? \( *[\d.]+%\): worker 1\n', tags), tags


def test_go_merges_and_diffs(pprof, made):
    """Twice the same: the sum; against itself: nothing."""
    assert f'of {2 * TOTAL} total' in pprof('-top', '-sample_index=samples', files=[made('pprof')] * 2)
    diff = pprof('-top', '-sample_index=samples', '-diff_base', made('pprof'))
    assert re.search(rf'accounting for 0, +0% of {TOTAL} total', diff), diff


# ---- npm's pprof-format --------------------------------------------------------------------------------------------------

READ_PPROF = r'''
const fs = require('fs'), zlib = require('zlib');
const { Profile } = require('pprof-format');
const profile = Profile.decode(zlib.gunzipSync(fs.readFileSync(process.argv[1])));
console.log(JSON.stringify(profile, (key, value) => typeof value === 'bigint' ? Number(value) : value));
'''


@pytest.fixture(scope='module')
def decoded(npm_dir, made):
    out = subprocess.run(['node', '-e', READ_PPROF, '--', made('pprof')], stdout=subprocess.PIPE, check=True, timeout=300,
                         cwd=npm_dir, env=dict(os.environ, NODE_PATH=os.path.join(npm_dir, 'node_modules'))).stdout
    return json.loads(out)


def strings_of(profile):
    table = profile['stringTable']
    return table['strings'] if isinstance(table, dict) else table


def test_pprof_format_tables(decoded):
    strings = strings_of(decoded)
    assert strings[0] == ''
    assert len(set(strings)) == len(strings)
    for kind in ('location', 'function', 'mapping'):
        assert [item['id'] for item in decoded[kind]] == list(range(1, len(decoded[kind]) + 1))
    assert [(strings[t['type']], strings[t['unit']]) for t in decoded['sampleType']] == [('samples', 'count'),
                                                                                        ('cpu', 'nanoseconds')]
    assert strings[decoded['defaultSampleType']] == 'cpu'
    assert (decoded['period'], decoded['timeNanos'], decoded['durationNanos']) == (10**7, 1700000000 * 10**9, 30 * 10**9)
    assert [strings[i] for i in decoded['comment']] == ['rate: 100 Hz asked, 99.8 Hz reached', 'bad \ufffd comment; "quoted"']
    assert strings[decoded['mapping'][0]['filename']] == EXE
    flags = ('hasFunctions', 'hasFilenames', 'hasLineNumbers', 'hasInlineFrames')
    assert [[bool(mapping[flag]) for flag in flags] for mapping in decoded['mapping']] == [[True] * 4, [False] * 4]


def test_pprof_format_samples(decoded):
    strings = strings_of(decoded)
    functions = {f['id']: strings[f['name']] for f in decoded['function']}
    lines = {location['id']: [functions[line['functionId']] for line in location['line']] or [None]
             for location in decoded['location']}
    found = []
    for sample in decoded['sample']:
        stack = [name for location in sample['locationId'] for name in lines[location]][::-1]
        labels = {strings[label['key']]: strings[label['str']] if label['str'] else label['num'] for label in sample['label']}
        assert set(labels) in ({'thread_id', 'thread_name'}, set())
        thread = (labels['thread_id'], labels['thread_name']) if labels else None
        assert sample['value'][1] == sample['value'][0] * 10**7
        found.append((stack, sample['value'][0], thread))
    assert found == expected_samples()


# ---- flamegraph.pl's grammar ---------------------------------------------------------------------------------------------

LINE = re.compile(rb'^(.*)\s+?(\d+(?:\.\d*)?)$')


def read_folded(data):
    """As flamegraph.pl reads it, but strict: any line that it would ignore, or take for a differential one, is an error."""
    assert data == b'' or data.endswith(b'\n')
    stacks = []
    for line in data.split(b'\n')[:-1]:
        match = LINE.match(line)
        assert match, line
        stack, count = match.groups()
        assert not LINE.match(stack), f'read as a differential profile: {line}'
        assert not LINE.match(b';'.join(reversed(stack.split(b';')))), f'with --reverse read as a differential profile: {line}'
        assert re.fullmatch(rb'[1-9]\d*', count) and int(count) < 1 << 63
        frames = stack.decode('utf-8').split(';')
        assert all(frames), f'an empty frame: {line}'
        assert not any(re.search('[\x00-\x1f\x7f-\x9f\u2028\u2029]', frame) for frame in frames), line
        stacks.append((frames, int(count)))
    return stacks


def test_the_checker_refuses():
    for bad in (b'a;b\n', b'a 1', b'a;b 1 2\n', b'a; 1\n', b';a 1\n', b' 1\n', b'1\n', b'a 0\n', b'a 1.5\n', b'a -1\n',
                b'a\tb 1\n', b'a\xff 1\n', b'\n', b'a 1\n\n', b'x 5;a 1\n'):
        with pytest.raises((AssertionError, UnicodeDecodeError)):
            read_folded(bad)
    assert read_folded(b'a b;c 12\n12 1\n') == [(['a b', 'c'], 12), (['12'], 1)]


def clean(name):
    if name is None:
        return None
    return {'semi;colon': 'semi:colon', 'new\nline\ttab': 'new_line_tab', 'count 12': 'count_12'}.get(name, name.replace(';', ':'))


def test_folded(made):
    with open(made('folded'), 'rb') as file:
        stacks = read_folded(file.read())
    bare = {'lib\ufffd.so.1+0x1123': None, '0x1234': None}
    found = [([bare.get(frame, frame) for frame in frames], count) for frames, count in stacks]
    expected = [([clean(name) for name in stack], count) for stack, count, _ in expected_samples()]
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert [frames for frames, _ in stacks if len(frames) == 5] == [['main', 'outer', 'middle_inline', 'inner_inline',
                                                                   'lib\ufffd.so.1+0x1123']]


# ---- speedscope ----------------------------------------------------------------------------------------------------------

VALIDATE = r'''
const Ajv = require('ajv');
const schema = require('speedscope/dist/release/file-format-schema.json');
const validate = new Ajv({ strict: false }).compile(schema);
const ok = validate(JSON.parse(require('fs').readFileSync(process.argv[1], 'utf8')));
if (!ok) { console.error(JSON.stringify(validate.errors)); process.exit(1); }
'''


def test_speedscope_schema(npm_dir, made, tmp_path):
    env = dict(os.environ, NODE_PATH=os.path.join(npm_dir, 'node_modules'))

    def validate(path):
        return subprocess.run(['node', '-e', VALIDATE, '--', str(path)], env=env, stderr=subprocess.PIPE, check=False, timeout=300)

    result = validate(made('speedscope'))
    assert result.returncode == 0, result.stderr
    with open(made('speedscope'), encoding='utf-8') as file:
        broken = json.load(file)
    del broken['profiles'][0]['weights']
    (tmp_path / 'broken.json').write_text(json.dumps(broken))
    assert validate(tmp_path / 'broken.json').returncode == 1


def test_speedscope_contents(made):
    with open(made('speedscope'), encoding='utf-8', errors='strict') as file:
        data = json.load(file)
    names = [frame['name'] for frame in data['shared']['frames']]
    assert len({json.dumps(frame) for frame in data['shared']['frames']}) == len(names)
    found = []
    for profile in data['profiles']:
        assert profile['endValue'] == sum(profile['weights']) and len(profile['weights']) == len(profile['samples'])
        for stack, weight in zip(profile['samples'], profile['weights']):
            bare = {'lib\ufffd.so.1+0x1123', '0x1234'}
            found.append(([None if names[i] in bare else names[i] for i in stack], weight, profile['name']))
    expected = [(stack, count, f'{thread[1]} ({thread[0]})' if thread else '[no thread]')
                for stack, count, thread in expected_samples()]
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert [profile['unit'] for profile in data['profiles']] == ['none'] * 5
    totals = [profile['endValue'] for profile in data['profiles']]
    assert totals == sorted(totals, reverse=True)


@pytest.fixture(scope='module')
def speedscope(npm_dir, made, tmp_path_factory):
    """The npm package's page in Chromium, with our file imported the way its own command line does."""
    if CHROMIUM is None:
        pytest.skip('chromium is not installed')
    with open(made('speedscope'), 'rb') as file:
        data = base64.b64encode(file.read()).decode()
    script = tmp_path_factory.mktemp('speedscope') / 'load.js'
    script.write_text(f'speedscope.loadFileFromBase64("odd.speedscope.json", "{data}")')
    index = os.path.join(npm_dir, 'node_modules/speedscope/dist/release/index.html')
    with Browser() as browser:
        browser.open(f'{index}#localProfilePath={script}')
        wait_until(lambda: all(word in browser.evaluate('document.title') for word in ('speedscope', 'Odd')), lambda: browser.text('body'))
        yield browser


def test_speedscope_imports(speedscope):
    """Its title, its list of threads, and its table of functions."""
    assert 'Odd "names"' in speedscope.evaluate('document.title')
    assert 'main (100)' in speedscope.evaluate('document.title') + speedscope.text('body')
    speedscope.key('3')  # the view called Sandwich: a table with each function's own and total weight
    wait_until(lambda: 'inner_inline' in speedscope.evaluate('document.body.innerText'), lambda: speedscope.text('body'))
    page = speedscope.evaluate('document.body.innerText')
    for name, own, total in (('inner_inline', 100, 100), ('middle_inline', 0, 100), ('outer', 0, 100), ('recurse', 10, 10),
                             ('say "hi" \\ back', 1, 1), ('bad\ufffd\ufffd utf8', 5, 5), ('main', 0, 116)):
        assert re.search(rf'(^|\n){total} \([^)]*\)\s+{own} \([^)]*\)\s+{re.escape(name)}(\n|$)', page), (name, page)
    assert speedscope.errors() == []


def test_gzip_is_whole(made):
    with gzip.open(made('pprof')) as file:
        assert file.read()
