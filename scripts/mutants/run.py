"""Weaves all mutants into a copy of the sources, builds it once and runs the tests with one mutant on at a time;
scripts/mutants.sh builds the weaver and calls this."""

import argparse
import fcntl
import hashlib
import io
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time

FOLDER = pathlib.Path("target/mutants")
# The sources as they were at the start, and the copy with the mutants.
SOURCE = FOLDER / "source"
TREE = FOLDER / "tree"
OUTCOMES = FOLDER / "outcomes.jsonl"
FILES = ["src/detector/**", "src/convex/**", "src/optimizer/**"]
# The tests with a learner wait for half of their time.
WORKERS = 2 * (os.cpu_count() or 1)
# A test that takes longer without a mutant is left for last.
SLOW = 1.0
MEMORY = 8 << 30
SWITCH = """
/// Whether this mutant is the one that the environment names.
#[inline]
pub(crate) fn mutant(number: u32) -> bool {
    static ON: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("MUTANT").map_or(0, |number| number.parse().unwrap()));
    *ON == number
}
"""


def put(path, text):
    """Writes a file unless it says this already, so that cargo sees only what changed."""
    if not path.exists() or path.read_bytes() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def sources(commit):
    """The package's files and their contents, those of a commit or as they are, without the program, which would take the
    place of the real one."""
    if commit:
        with tarfile.open(fileobj=io.BytesIO(subprocess.check_output(["git", "archive", commit]))) as archive:
            files = {file.name: archive.extractfile(file).read() for file in archive if file.isfile()}
    else:
        names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], text=True).splitlines()
        files = {name: pathlib.Path(name).read_bytes() for name in names if os.path.isfile(name)}
    files = {name: content for name, content in files.items() if not name.startswith(("src/bin/", "scripts/", "docs/"))}
    cargo = re.sub(r"\[\[bin\]\]\n([^\[\n].*\n)*", "", files["Cargo.toml"].decode())
    # A setting of its own tells cargo that what it builds of the copy is not what it builds of the crate.
    files["Cargo.toml"] = (cargo + "\n[profile.release.package.burn-convexity]\ncodegen-units = 64\n").encode()
    return files


def fill(folder, files):
    """Makes the folder hold these files and no others."""
    for old in [path for path in folder.rglob("*") if path.is_file() and str(path.relative_to(folder)) not in files]:
        old.unlink()
    for name, content in files.items():
        put(folder / name, content)


def stamp(files):
    """What outcomes hold for: the code and its tests."""
    told = hashlib.sha256()
    for name in sorted(files):
        if name.startswith(("src/", "tests/", "examples/", "schema/", "Cargo.")):
            told.update(name.encode() + b"\0" + files[name] + b"\0")
    return told.hexdigest()[:16]


def culprits(woven, line):
    """The mutants that an error is about: those of the smallest woven place around it."""
    message = json.loads(line)
    if message["reason"] != "compiler-message" or message["message"]["level"] != "error":
        return set()

    def spans(span):
        while span:
            yield span
            span = span["expansion"] and span["expansion"]["span"]

    places = [place for span in message["message"]["spans"] for place in spans(span)]
    places += [span for child in message["message"]["children"] for span in child["spans"]]
    places.sort(key=lambda place: not place["is_primary"])
    for place in places:
        at = place["byte_start"], place["byte_end"]
        owners = woven["files"].get(place["file_name"], {"owners": []})["owners"]
        around = [owner for owner in owners if owner[0] <= at[0] and at[1] <= owner[1]]
        if around:
            return set(min(around, key=lambda owner: owner[1] - owner[0])[2])
    if not message["message"]["spans"]:
        return set()  # "aborting due to", "could not compile"
    sys.exit("mutants: an error of no mutant\n" + message["message"]["rendered"])


def build(weaver, files, names):
    """Builds the tests with all mutants that compile: gives the two programs and the names of the others."""
    left_out = FOLDER / "unviable.json"
    state = FOLDER / "unviable-of"
    current = stamp(files)
    if not state.exists() or state.read_text() != current:
        left_out.write_text("[]")
    command = ["cargo", "test", "--release", "--features", "cli", "--lib", "--test", "it", "--no-run"]
    command += ["--message-format", "json"]
    environment = dict(os.environ, CARGO_INCREMENTAL="1", CARGO_TARGET_DIR=os.path.abspath("target"))
    weave = [os.path.abspath(path) for path in (weaver, FOLDER / "list.json", left_out)]
    while True:
        woven = json.loads(subprocess.check_output(weave, cwd=SOURCE))
        lib = b"#![allow(warnings)]\n" + files["src/lib.rs"] + SWITCH.encode()
        texts = {name: file["text"].encode() for name, file in woven["files"].items()}
        fill(TREE, files | {"src/lib.rs": lib} | texts)
        began = time.monotonic()
        built = subprocess.run(command, cwd=TREE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = built.stdout.splitlines()
        unviable = set(json.loads(left_out.read_text())) | set(woven["unviable"])
        if built.returncode == 0:
            break
        found = set().union(*(culprits(woven, line) for line in lines))
        if not found:
            sys.exit(built.stderr)
        unviable |= {names[number - 1] for number in found}
        left_out.write_text(json.dumps(sorted(unviable), indent=0))
        print(f"{len(found)} do not compile, {time.monotonic() - began:.0f} s", flush=True)
    state.write_text(current)
    programs = {}
    for message in map(json.loads, lines):
        if message["reason"] == "compiler-artifact" and message["executable"]:
            programs[message["target"]["name"]] = message["executable"]
    return programs["burn_convexity"], programs["it"], unviable


def run(arguments, limits, scratch, mutant=None, seen=lambda line: None):
    """Runs tests to the first that fails: "" if all pass, the name of the one that failed, or what else went wrong. The
    limits are seconds of the processor, which other programs do not use up, and of the clock."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MUTANT", "PROPTEST_"))}
    # Everyone draws the same cases, and none that failed is shrunk or written down.
    environment |= {"PROPTEST_RNG_SEED": "1", "PROPTEST_MAX_SHRINK_ITERS": "0"}
    environment |= {"RAYON_NUM_THREADS": "1", "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "true", "TMPDIR": str(scratch.absolute())}
    if mutant:
        environment["MUTANT"] = str(mutant)
    # `timeout` also ends the tests of a runner that is gone.
    limited = f'ulimit -c 0 -v {MEMORY >> 10} -t {limits[0]}; exec timeout -s KILL {limits[1]} "$@"'
    command = ["bash", "-c", limited, "mutant", *arguments]
    with subprocess.Popen(command, cwd=TREE, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, errors="replace", start_new_session=True) as process:
        failed = ""
        for line in process.stdout:
            seen(line)
            if found := re.match(r"test (\S+).* \.\.\. FAILED$", line):
                failed = found[1]
                break
        try:
            if failed:
                os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if failed or process.returncode == 0:
        return failed
    status = process.returncode % 256
    return "time" if status in (128 + signal.SIGKILL, 256 - signal.SIGKILL, 128 + signal.SIGXCPU) else f"status {status}"


def processor():
    """Seconds of the processor that all tests together have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stages(lib, it):
    """The tests in the order in which a mutant meets them, quick ones first, each stage with its limits; every test passes
    without a mutant."""
    unlimited = 1800, 1800
    last, slow = time.monotonic(), []

    def clock(line):
        nonlocal last
        if line.startswith("test ") and line.rstrip().endswith(" ok"):
            now = time.monotonic()
            if now - last > SLOW:
                slow.append(line.split()[1])
            last = now

    if failed := run([it, "--test-threads", "1"], unlimited, FOLDER / "tmp/0", seen=clock):
        sys.exit(f"mutants: without a mutant, {failed} fails")
    skipped = [word for name in slow for word in ("--skip", name)]
    found = []
    for tests in [lib], [it, "--exact", *skipped], *([[it, "--exact", *slow]] if slow else []):
        began, used = time.monotonic(), processor()
        arguments = [*tests, "--test-threads", "2"]
        if failed := run(arguments, unlimited, FOLDER / "tmp/0"):
            sys.exit(f"mutants: without a mutant, {failed} fails")
        took, used = time.monotonic() - began, processor() - used
        print(f"stage {len(found) + 1} without a mutant: {took:.1f} s, {used:.1f} s of the processor", flush=True)
        found.append((arguments, (round(5 + 5 * used), round(60 + 10 * took))))
    return found


def judge(number, stages, scratch):
    """What a mutant comes to."""
    began = time.monotonic()
    for arguments, limits in stages:
        if by := run(arguments, limits, scratch, number):
            break
    result = {"": "survived", "time": "time"}.get(by, "caught")
    return {"result": result, "by": by, "seconds": round(time.monotonic() - began, 1)}


def outcomes():
    """The last outcome of every mutant, by name."""
    if not OUTCOMES.exists():
        return {}
    return {outcome["name"]: outcome for outcome in map(json.loads, OUTCOMES.read_text().splitlines())}


def order(name):
    file, line, column, _ = name.split(":", 3)
    return file, int(line), int(column)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weaver")
    parser.add_argument("--only", metavar="TEXT", default="", help="mutants of files with this in their path, again")
    parser.add_argument("--commit", help="of this commit instead of the files as they are")
    parser.add_argument("--survivors", action="store_true", help="those that survived, again")
    parser.add_argument("--quick", action="store_true", help="without the slow tests")
    options = parser.parse_args()
    os.nice(5)
    FOLDER.mkdir(parents=True, exist_ok=True)
    alone = (FOLDER / "lock").open("w")
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("mutants: another run is under way")

    command = ["cargo", "mutants", "--list", "--json", *(word for files in FILES for word in ("-f", files))]
    files = sources(options.commit)
    fill(SOURCE, files)
    listed = subprocess.check_output([*command, "-d", SOURCE], text=True)
    (FOLDER / "list.json").write_text(listed)
    names = [mutant["name"] for mutant in json.loads(listed)]
    lib, it, unviable = build(options.weaver, files, names)
    viable = {name: number for number, name in enumerate(names, 1) if name not in unviable}
    asked = {name: number for name, number in viable.items() if options.only in name.split(":")[0]}

    current, known = stamp(files), outcomes()
    done = {name for name, outcome in known.items() if outcome["tree"] == current}
    if options.survivors:
        todo = {name: number for name, number in asked.items() if known.get(name, {}).get("result") == "survived"}
    elif options.only:
        todo = dict(asked)
    else:
        todo = {name: number for name, number in asked.items() if name not in done}
    print(f"{len(names)} mutants, {len(viable)} compile, {len(todo)} to run", flush=True)

    if todo:
        plan = stages(lib, it)[: 2 if options.quick else None]
        queue, lock = iter(sorted(todo.items(), key=lambda item: item[1])), threading.Lock()

        def work(worker):
            while True:
                with lock:
                    name, number = next(queue, (None, None))
                if name is None:
                    return
                outcome = {"name": name, **judge(number, plan, FOLDER / f"tmp/{worker}"), "tree": current}
                with lock, OUTCOMES.open("a") as file:
                    file.write(json.dumps(outcome) + "\n")

        workers = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    known = {name: outcome["result"] for name, outcome in outcomes().items() if name in asked}
    for name in sorted((name for name in known if known[name] == "survived"), key=order):
        print(name)
    slow = sum(result == "time" for result in known.values())
    survived = sum(result == "survived" for result in known.values())
    caught = len(known) - survived
    listed = sum(options.only in name.split(":")[0] for name in names)
    print(f"mutants: {listed} listed, {len(asked)} viable, {caught} caught ({slow} by time), {survived} survived, "
          f"{100 * caught / max(1, len(known)):.1f} %")


main()
