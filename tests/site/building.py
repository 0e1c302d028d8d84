"""Copies of the book to build from, so that tests leave the folder itself alone."""

import http.server
import os
import shutil
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT_S = 1200  # of a fixture, which the limit of the tests does not count


def copy_book(target):
    """Copy the book's sources, without history, environments and build products."""
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", "_build", "__pycache__", "*.egg-info", ".*_cache"
    )
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


def build(book, *options):
    """Run `python -m press book` in a copy; return (exit status, output)."""
    done = subprocess.run(
        [sys.executable, "-m", "press", "book", *options],
        cwd=book,
        env={**os.environ, "PYTHONPATH": str(book)},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT_S,
    )
    return done.returncode, done.stdout + done.stderr


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files like any host of static sites: unknown addresses get 404.html."""

    def send_error(self, code, message=None, explain=None):
        page = Path(self.directory) / "404.html"
        if code != HTTPStatus.NOT_FOUND or not page.is_file():
            return super().send_error(code, message, explain)
        content = page.read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass
