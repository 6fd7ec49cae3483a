"""Fails unless two runs ended alike, but for the time they took and where they were resumed."""

import json
import sys


def end(folder):
    with open(f"{folder}/summary.json") as file:
        summary = json.load(file)
    for method in summary["methods"]:
        del method["seconds"]
        method["events"] = [event for event in method["events"] if event["event"] != "resumed"]
    return summary


first, second = map(end, sys.argv[1:])
if first != second:
    sys.exit(f"{sys.argv[2]} ended differently:\n{json.dumps(first, indent=1)}\n{json.dumps(second, indent=1)}")
