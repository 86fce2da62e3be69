"""Says what it was told to say wherever a process can choose a word: `chosen_words.py WORD LIBRARY`.

`hold` names threads, marks, functions, files and itself so, and allocates under each of these names; LIBRARY, a file with such a
name, calls `malloc`, too.
"""

import ctypes
import sys
import threading

PR_SET_NAME = 15


def main():
    word, library = sys.argv[1:3]
    libc = ctypes.CDLL(None)
    raw = word.encode("utf-8", "surrogateescape")
    libc.prctl(PR_SET_NAME, raw[:15], 0, 0, 0)
    opened = ctypes.CDLL(library)
    opened.take.restype = ctypes.c_void_p
    held = []

    def function(name, file):
        def made():
            held.append(bytearray(200_000))

        parts = {"co_name": name, "co_filename": file}
        if sys.version_info >= (3, 11):
            parts["co_qualname"] = name
        made.__code__ = made.__code__.replace(**parts)
        return made

    def thread(name):
        libc.prctl(PR_SET_NAME, name[:15], 0, 0, 0)
        function("in_thread", "/srv/thread.py")()

    print("READY", flush=True)
    for line in sys.stdin:
        if line.split() == ["hold"]:
            function(word, "/srv/" + word)()
            # A name that begins with what begins a formula, and one that ends a frame.
            function("=" + word, "=" + word)()
            function("a;forged_frame 12", "/srv/app.py")()
            held.append(opened.take(300_000))
            other = threading.Thread(target=thread, args=(raw[-15:],))
            other.start()
            other.join()
            for mark in (raw[:40], b"=" + raw[:40]):
                text = b"highwater:" + mark
                libc.write(-1, text, len(text))
            print("TRUTH", f"held={len(held)}", flush=True)
        print("DONE", line.strip(), flush=True)


main()
