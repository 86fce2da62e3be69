"""A script that is over in some thirty milliseconds."""


def load():
    return bytearray(50_000_000)


def main():
    data = load()
    print("READY", flush=True)
    return data


main()
