#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The profd authors
"""embed.py IN OUT: a C header with IN's bytes as `static const char NAME[]` (NUL-terminated), NAME from OUT's name."""
import pathlib
import sys

source, target = map(pathlib.Path, sys.argv[1:3])
name = target.name.removesuffix(".h")
data = source.read_bytes() + b"\0"
rows = (", ".join(str(byte) for byte in data[i:i + 32]) for i in range(0, len(data), 32))
target.write_text(f"static const char {name}[] = {{\n" + ",\n".join(rows) + "\n};\n")
