#!/usr/bin/python3
"""python-api answers HTTP requests with what mock-db knows: go-api.go in Python.

    GET /value/KEY  asks the database; 200 with JSON, or 503 if the database cannot be asked
    GET /ping       asks nobody

PORT (8080) is the port, DB_ADDR (localhost:5432) is where the database listens.
"""

import http.server
import json
import os
import socket
import threading
import time

HOST, _, PORT = os.environ.get("DB_ADDR", "localhost:5432").rpartition(":")


class Heart(threading.Thread):
    """Beats every 10 ms: shows whether other threads go on while one request waits."""

    beats = 0

    def run(self):
        while True:
            time.sleep(0.01)
            self.beats += 1


HEART = Heart(daemon=True)


def ask(question):
    """Sends one line to the database and returns the line that comes back."""
    with socket.create_connection((HOST, PORT), timeout=20) as connection:
        connection.sendall(question.encode() + b"\n")
        with connection.makefile() as lines:
            return lines.readline().strip()


class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/ping":
            return self.reply(200, "pong")
        before = HEART.beats
        try:
            value = ask("GET " + self.path.removeprefix("/value/"))
        except OSError as error:
            return self.reply(503, str(error))
        return self.reply(200, json.dumps({"value": value, "beats": HEART.beats - before}))

    def reply(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing: the trace shows what happened."""


HEART.start()
port = int(os.environ.get("PORT", "8080"))
http.server.ThreadingHTTPServer(("localhost", port), Api).serve_forever()
