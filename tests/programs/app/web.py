import json

CACHE = []


def load_catalogue():
    with open("orders.json") as file:
        return json.load(file)


CATALOGUE = load_catalogue()


def remember(path):
    CACHE.append(bytearray(200_000))


def application(environ, start_response):
    remember(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok\n"]
