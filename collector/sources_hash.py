#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
"""sources_hash.py OUT IN…: a C header that defines NAME, from OUT's name, as a 64-bit hash of what is in IN."""
import hashlib
import pathlib
import sys

target = pathlib.Path(sys.argv[1])
sources = hashlib.sha256(b"\0".join(pathlib.Path(path).read_bytes() for path in sys.argv[2:]))
target.write_text(f"#define {target.name.removesuffix('.h').upper()} 0x{sources.hexdigest()[:16]}ULL\n")
