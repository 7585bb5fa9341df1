"""The client of the proxy's figures: milliseconds of each connection, or of each download, as a JSON list."""

import json
import socket
import ssl
import sys
import time

what, count = sys.argv[1], int(sys.argv[2])
name = "files.test"


def hello():
    """The first words of TLS; nothing after them is encrypted, so that only the way is measured."""
    out = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def connect(address, first):
    tube = socket.create_connection(address)
    tube.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tube.sendall(first)
    return tube


def drained(tube):
    total, room = 0, bytearray(1 << 20)
    while read := tube.recv_into(room):
        total += read
    return total


def http(path):
    return b"GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path.encode(), name.encode())


def once():
    if what == "http":
        drained(connect((address, 80), http("")))
    elif what == "tls":
        tube = connect((address, 443), greeting)
        assert tube.recv(3)
    elif what == "http-download":
        assert drained(connect((address, 80), http(sys.argv[3]))) >= int(sys.argv[3]) << 20
    elif what == "tls-download":
        tube = connect((address, 443), greeting)
        assert tube.recv(3) == b"ok\n"
        tube.sendall(b"POUR %d" % int(sys.argv[3]))
        assert drained(tube) == int(sys.argv[3]) << 20


# Looked up once: names are cached by whoever speaks often, and the resolver is not what is measured.
address = socket.gethostbyname(name)
greeting = hello()
times = []
for _ in range(count):
    begun = time.monotonic()
    once()
    times.append((time.monotonic() - begun) * 1000)
print(json.dumps(times))
