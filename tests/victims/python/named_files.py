"""Code objects under file names that are given: `named_files.py NAME...`. `hold` allocates on line 2 of each."""

import sys

SOURCE = "\nheld.append(bytearray(100_000))\n"


def main():
    names = sys.argv[1:]
    held = []
    print("READY", flush=True)
    for line in sys.stdin:
        if line.split() == ["hold"]:
            for name in names:
                exec(compile(SOURCE, name, "exec"), {"held": held})
            print("TRUTH", f"held={len(held)}", flush=True)
        print("DONE", line.strip(), flush=True)


main()
