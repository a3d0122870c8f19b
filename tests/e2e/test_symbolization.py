# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
"""Names, inlined chains, files and lines beside llvm-symbolizer's, address by address, over compilers and forms of debug info.
docs/symbolization.md explains the rules by which answers count as equal. By hand, for any file and many more addresses:

    tests/e2e/test_symbolization.py FILE [ADDRESSES [DEBUG_DIRS]]
"""
import collections
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TOOL = ROOT / 'build/tests/bench/bench_symbolize'
CPP = ROOT / 'tests/unit/symbolizer_target.cpp'
RUST = ROOT / 'tests/e2e/target_rust.rs'
ADDRESSES = 4000
AT_LEAST = 0.999


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, errors='replace', **options).stdout


def function_addresses(path, count):
    """Addresses inside of functions: what lies between them is padding, of which each tool thinks what it likes."""
    spans = []
    for line in run(['nm', '--defined-only', '-S', path]).splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in 'tTwW':
            spans.append((int(fields[0], 16), int(fields[1], 16)))
    everything = [start + at for start, size in set(spans) for at in range(size)]
    return sorted(random.Random(1).sample(everything, min(count, len(everything))))


def text_addresses(path, count):
    start, size = (int(word, 16) for word in
                   re.search(r'\.text +PROGBITS +(\w+) +\w+ +(\w+)', run(['readelf', '-SW', path])).groups())
    return sorted(random.Random(1).sample(range(start, start + size), min(count, size)))


def clean(path):
    return '' if path in ('', '??') else os.path.normpath(path)


def ours(path, addresses, debug_dirs):
    text = ''.join(f'{address:#x}\n' for address in addresses)
    answers = {}
    for line in run([TOOL, '--print', path, debug_dirs], input=text, env={**os.environ, 'PROFD_CACHE_DIR': ''}).splitlines():
        if '\t' not in line:
            answers[int(line, 16)] = frames = []
        else:
            system_name, _, file, number = line.split('\t')
            frames.append((system_name, clean(file), int(number)))
    return answers


def theirs(path, addresses):
    text = ''.join(f'{address:#x}\n' for address in addresses)
    answers, frames, name = {}, [], None
    for line in run(['llvm-symbolizer', '-a', '-i', '--no-demangle', '-e', path], input=text).splitlines():
        if not line:
            continue
        if name is None and re.fullmatch('0x[0-9a-f]+', line):
            answers[int(line, 16)] = frames = []
        elif name is None:
            name = line
        else:
            file, number, _ = line.rsplit(':', 2)
            if name != '??' or number not in '0?':
                frames.append((name, clean(file), int(number) if number != '?' else 0))
            name = None
    return answers


def demangled(names):
    return dict(zip(names, run(['c++filt'], input='\n'.join(names) + '\n').splitlines()))


def symbol_values(path):
    fields = (line.split() for line in subprocess.run(['nm', path], capture_output=True, text=True, check=False).stdout.splitlines())
    return {words[2]: words[0] for words in fields if len(words) == 3}


# Numbers alone: clang's LTO so tells locals of several units that have one name.
PARTS = re.compile(r'\.((isra|part|constprop|cold|lto_priv|llvm)\b.*|[0-9]+$)')


def whole(name):
    """Of a part that the compiler made of a function, the function."""
    return PARTS.sub('', name)


def same_name(mine, other, readable, values, outermost):
    # A function local to its unit has no linkage name in GCC's DWARF; we have the symbol's.
    identifier = re.split(r'[<.]', other)[0]
    return (mine == other or whole(mine) == whole(other) or readable.get(whole(mine)) == readable.get(whole(other)) or
            # Functions that turned out alike were folded: one piece of code with several names, of which not all may be symbols.
            (mine in values and values[mine] == values.get(other)) or
            (outermost and mine not in values and other in values and mine.startswith(('_Z', '_R'))) or
            (not other.startswith(('_Z', '_R')) and mine.startswith(('_Z', '_R')) and
             (identifier in mine or other.startswith('operator'))) or
            # The other way around: they have the symbol.
            (not mine.startswith(('_Z', '_R')) and other.startswith(('_Z', '_R')) and re.split(r'[<.]', mine)[0] in other))


def same_file(mine, other):
    # A relative compilation directory says nothing of where the file is: it is not put in front.
    return mine == other or (mine and not mine.startswith('/') and other.endswith('/' + mine)) or other == '<artificial>'


def difference(mine, other, readable, values):
    """None: they are equal."""
    if not other and mine and all(not file for _, file, _ in mine):
        return None  # a symbol, of which it says nothing without debug info
    if not mine and all(name == '??' for name, _, _ in other):
        return None  # a line of code that no function has
    if len(mine) != len(other):
        return 'depth'
    for left, ((name, file, number), (their_name, their_file, their_number)) in zip(range(len(mine), 0, -1), zip(mine, other)):
        if not same_name(name, their_name, readable, values, left == 1):
            return 'name'
        if not same_file(file, their_file) and (number or their_number):
            return 'file'
        if number != their_number:
            return 'line'
    return None


def all_names(*sides):
    return sorted({whole(name) for answers in sides for frames in answers.values() for name, _, _ in frames})


def compare(path, count, debug_dirs='', addresses=function_addresses, reference=None):
    """reference: the same code with debug info that llvm-symbolizer can read."""
    chosen = addresses(path, count)
    mine, other = ours(path, chosen, debug_dirs), theirs(reference or path, chosen)
    readable, values = demangled(all_names(mine, other)), symbol_values(path)
    found = collections.Counter()
    examples = {}
    for address in chosen:
        kind = difference(mine.get(address, []), other.get(address, []), readable, values)
        found[kind] += 1
        examples.setdefault(kind, (hex(address), mine.get(address), other.get(address)))
    examples.pop(None, None)
    return len(chosen), found, examples


VARIANTS = {
    'gcc-O2': ['g++', '-O2', '-g', str(CPP)],
    'gcc-O3-dwarf4': ['g++', '-O3', '-gdwarf-4', str(CPP)],
    'gcc-lto': ['g++', '-O2', '-g', '-flto', str(CPP)],
    'gcc-sections': ['g++', '-O2', '-g', '-ffunction-sections', '-Wl,--gc-sections', str(CPP)],
    'gcc-types': ['g++', '-O2', '-g', '-fdebug-types-section', str(CPP)],
    'gcc-compressed': ['g++', '-O2', '-g', '-gz', str(CPP)],
    'gcc-split': ['g++', '-O2', '-g', '-gsplit-dwarf', str(CPP)],
    'gcc-split-dwarf4': ['g++', '-O2', '-gdwarf-4', '-gsplit-dwarf', str(CPP)],
    'clang-O2': ['clang++', '-O2', '-g', str(CPP)],
    'clang-O3-dwarf4': ['clang++', '-O3', '-gdwarf-4', str(CPP)],
    'clang-split': ['clang++', '-O2', '-g', '-gsplit-dwarf', str(CPP)],
    'rustc-O3': ['rustc', '-C', 'opt-level=3', '-g', str(RUST)],
    'rustc-lto': ['rustc', '-C', 'opt-level=2', '-C', 'lto=fat', '-g', str(RUST)],
}


@pytest.mark.skipif(not shutil.which('llvm-symbolizer'), reason='llvm-symbolizer is not installed (apt-get install llvm)')
@pytest.mark.parametrize('variant', VARIANTS)
def test_as_llvm_symbolizer(variant, tmp_path):
    command = VARIANTS[variant]
    if not shutil.which(command[0]) or subprocess.run([command[0], '--version'], capture_output=True, check=False).returncode:
        pytest.skip(f'{command[0]} is not installed')
    output = tmp_path / 'program'
    subprocess.run([*command, '-o', output], check=True, capture_output=True, cwd=tmp_path)
    expect_equal(output)


def needs(*tools):
    for tool in tools:
        if not shutil.which(tool):
            pytest.skip(f'{tool} is not installed')


def expect_equal(output, **options):
    total, found, examples = compare(output, ADDRESSES, **options)
    print(f'{output}: {found[None]} of {total} equal; {dict(found)}')
    assert total >= 1000
    assert found[None] >= AT_LEAST * total, examples


# ---- Packages and shared parts ----------------------------------------------------------------------------------------------


PACKERS = {'dwp': ['-e', 'program', '-o', 'program.dwp'], 'llvm-dwp': ['-e', 'program', '-o', 'program.dwp']}


def build_split(compiler, level, tmp_path):
    """Two units, each with a .dwo file, and a copy whose debug info is not split."""
    shutil.copy2(CPP, tmp_path / 'one.cpp')
    shutil.copy2(ROOT / 'tests/e2e/target_cpp.cpp', tmp_path / 'two.cpp')
    for name, options in (('whole', []), ('program', ['-gsplit-dwarf'])):
        for unit, more in (('one', []), ('two', ['-Dmain=second_main'])):
            subprocess.run([compiler, '-O2', '-g', level, *options, *more, '-c', f'{unit}.cpp', '-o', f'{name}-{unit}.o'], check=True,
                           cwd=tmp_path)
        subprocess.run([compiler, f'{name}-one.o', f'{name}-two.o', '-o', name], check=True, cwd=tmp_path)


@pytest.mark.parametrize('packer', PACKERS)
@pytest.mark.parametrize('level', ['-gdwarf-4', '-gdwarf-5'])
@pytest.mark.parametrize('compiler', ['g++', 'clang++'])
def test_package(compiler, level, packer, tmp_path):
    """The .dwo files are gone: what they said is in PROGRAM.dwp."""
    needs('llvm-symbolizer', compiler, packer)
    build_split(compiler, level, tmp_path)
    if subprocess.run([packer, *PACKERS[packer]], capture_output=True, check=False, cwd=tmp_path).returncode:
        pytest.skip(f'{packer} cannot pack what {compiler} {level} makes')
    for path in tmp_path.glob('*.dwo'):
        path.unlink()
    expect_equal(tmp_path / 'program', reference=tmp_path / 'whole')
    (tmp_path / 'program.dwp').unlink()
    _, found, _ = compare(tmp_path / 'program', ADDRESSES, reference=tmp_path / 'whole')
    assert found[None] < 0.9 * sum(found.values()), 'that it shows anything: without the package inlined calls are not known'


def test_dwz(tmp_path):
    """What two programs have in common is in a third file (.gnu_debugaltlink), which llvm-symbolizer does not read."""
    needs('llvm-symbolizer', 'dwz')
    for name, options in (('program', []), ('other', ['-DOTHER'])):
        subprocess.run(['g++', '-O2', '-g', *options, CPP, '-o', tmp_path / name], check=True)
    shutil.copy2(tmp_path / 'program', tmp_path / 'whole')
    subprocess.run(['dwz', '-m', tmp_path / 'common.debug', '-M', tmp_path / 'common.debug', tmp_path / 'program', tmp_path / 'other'],
                   check=True)
    assert '.gnu_debugaltlink' in run(['readelf', '-SW', tmp_path / 'program'])
    expect_equal(tmp_path / 'program', reference=tmp_path / 'whole')
    (tmp_path / 'common.debug').unlink()
    _, found, _ = compare(tmp_path / 'program', ADDRESSES, reference=tmp_path / 'whole')
    assert found[None] < 0.9 * sum(found.values()), 'that it shows anything: names are in the common file'


def main():
    path, count = sys.argv[1], int((sys.argv[2:] or ['100000'])[0])
    total, found, examples = compare(path, count, (sys.argv[3:] or ['/usr/lib/debug'])[0], text_addresses)
    print(f'{path}: {found[None]} of {total} equal ({found[None] / total:.4%}); {dict(found)}')
    for kind, example in examples.items():
        print(kind, *example, sep='\n    ')


if __name__ == '__main__':
    main()
