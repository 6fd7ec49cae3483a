"""Puts the tables on standard input into the section of RESULTS.md that names `scripts/results.sh PART`, for those there."""
import pathlib
import re
import sys

part, tables = sys.argv[1], sys.stdin.read().strip()
results = pathlib.Path("RESULTS.md")
sections = re.split(r"^(?=## )", results.read_text(), flags=re.MULTILINE)
found = [i for i, section in enumerate(sections) if f"scripts/results.sh {part}`" in section]
if not tables:
    print(f"{part}: no finished run, nothing written")
    sys.exit()
if len(found) != 1:
    sys.exit(f"{part}: {len(found)} sections of RESULTS.md name it, nothing written")
lines = sections[found[0]].splitlines()
# From the first caption to the last row; the words before and behind stay.
inside = [i for i, line in enumerate(lines) if line.startswith("|") or re.match(r"\S+, \S+ \([\d,]+ parameters\), ", line)]
if not inside:
    sys.exit(f"{part}: no table to replace in its section of RESULTS.md")
lines[inside[0] : inside[-1] + 1] = tables.splitlines()
sections[found[0]] = "\n".join(lines).rstrip("\n") + ("\n\n" if found[0] + 1 < len(sections) else "\n")
results.write_text("".join(sections))
print(f"{part}: tables written to RESULTS.md")
