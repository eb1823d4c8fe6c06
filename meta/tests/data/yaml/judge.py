#!/usr/bin/env python3
"""What PyYAML's safe loader makes of the documents in cases.txt: writes verdicts.json. Needs python3-yaml.

Dates stay texts, as in meta/src/yaml.rs. Documents are separated by lines of five equals signs."""

import json
import struct
import sys
from pathlib import Path

import yaml


class Loader(yaml.SafeLoader):
    pass


Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))


def plain(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, float):
        return {"float": "nan" if value != value else struct.pack(">d", value).hex()}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        pairs = [[plain(key), plain(item)] for key, item in value.items()]
        return {"map": sorted(pairs, key=lambda pair: json.dumps(pair[0], separators=(",", ":"), ensure_ascii=False))}
    raise TypeError(type(value))


def verdict(text):
    try:
        return {"value": plain(yaml.load(text, Loader))}
    except Exception as error:  # PyYAML lets some of Python's own out
        return {"error": (str(error).splitlines() or [type(error).__name__])[0]}


folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
cases = (folder / "cases.txt").read_bytes().decode().split("=====\n")
(folder / "verdicts.json").write_text(json.dumps([verdict(case) for case in cases], indent=0, ensure_ascii=False) + "\n")
