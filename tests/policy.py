#!/usr/bin/env python3
"""Checks the dependency tree and the use of `unsafe` against .deny.toml, without a network.

Usage: python3 tests/policy.py        (from anywhere; exits 1 and names everything that breaks a rule)
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> None:
    policy = tomllib.loads((ROOT / ".deny.toml").read_text())
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    command = ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = [package for package in metadata["packages"] if package["source"]]
    # A check over nothing would always pass.
    assert len(packages) > 50, f"only {len(packages)} dependencies: is this the whole workspace?"

    problems = [
        *sources(packages, set(policy["sources"]["allow"])),
        *licences(packages, set(policy["licenses"]["allow"])),
        *pins(packages, manifest["workspace"]["dependencies"], policy["pinned"]),
        *stale_advisories(packages, policy["known_advisories"]),
        *unsafe_code({entry["file"] for entry in policy["unsafe_code"]}),
    ]
    for problem in problems:
        print(f"policy: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"policy: {len(packages)} dependencies, all from allowed sources under allowed licences")


def sources(packages, allowed):
    for package in packages:
        if package["source"] not in allowed:
            yield f"{package['name']} {package['version']} comes from {package['source']}"


def licences(packages, allowed):
    for package in packages:
        expression = package["license"]
        if not expression:
            yield f"{package['name']} {package['version']} names no licence"
        elif not met(expression, allowed):
            yield f"{package['name']} {package['version']} is under {expression!r}, which .deny.toml does not allow"


def met(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met with allowed licences. The old form A/B means A OR B."""
    text = expression.replace("/", " OR ")
    text = re.sub(r"(\S+) WITH (\S+)", r"\1~WITH~\2", text)
    tokens = re.findall(r"[()]|[^\s()]+", text)

    def any_of():
        value = all_of()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = all_of() or value
        return value

    def all_of():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        token = tokens.pop(0)
        if token != "(":
            return token.replace("~", " ") in allowed
        value = any_of()
        assert tokens.pop(0) == ")", f"unbalanced: {expression}"
        return value

    value = any_of()
    assert not tokens, f"not an SPDX expression: {expression}"
    return value


def pins(packages, dependencies, pinned):
    for pin in pinned:
        name, version = pin["crate"], pin["version"]
        asked = dependencies.get(name)
        asked = asked["version"] if isinstance(asked, dict) else asked
        if asked != f"={version}":
            yield f"{name} must be asked for as \"={version}\" in Cargo.toml, not {asked!r}"
        locked = [package["version"] for package in packages if package["name"] == name]
        if locked != [version]:
            yield f"{name} must be locked at {version} alone, not {locked}"


def stale_advisories(packages, known):
    names = {package["name"] for package in packages}
    for entry in known:
        if entry["crate"] not in names:
            yield f"{entry['id']} is about {entry['crate']}, which is no longer used: remove the entry"


def unsafe_code(allowed):
    found = set()
    for folder in ("crates", "migrations", "tests"):
        for path in (ROOT / folder).rglob("*.rs"):
            code = re.sub(r"//[^\n]*", "", path.read_text())
            if re.search(r"\bunsafe\b", code):
                found.add(path.relative_to(ROOT).as_posix())
    for file in sorted(found - allowed):
        yield f"{file} contains unsafe, which only {sorted(allowed)} may"
    for file in sorted(allowed - found):
        yield f"{file} no longer contains unsafe: remove its entry"


main()
