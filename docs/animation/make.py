#!/usr/bin/env python3
"""Makes docs/screenshots/order.webp: the README's curl command in a terminal, and the board that shows the order.

The command is read from README.md and run as it is there; the terminal shows its real output, and the board is the real
one in headless Chromium. A curl configuration in the temporary folder leads localhost:3000 to the free port of this
run, so that a server on port 3000 is not touched.

Needs the built binary (make build), and of Debian: chromium, chromium-driver, curl, webp.

usage: docs/animation/make.py [BINARY [OUTPUT]]
"""

import base64
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PRODUCT, BEFORE, AFTER = "A1", "3", "13"
# In CSS pixels; the width is about that of a README on GitHub.
WIDTH, HEIGHT, SCALE = 900, 480, 2
# Letters that appear with a frame of the typing.
LETTERS = 3
# How long frames are shown, in seconds: one of the typing, one of the board's change, and those that stand still.
TYPING, STEP, PAUSE, RESULT = 0.07, 0.05, 0.6, 2.2
DEADLINE = 30
MAX_BYTES = 400_000
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """Chromium, driven over WebDriver."""

    def __init__(self, folder):
        environment = dict(os.environ, HOME=folder, TMPDIR=folder)
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.session = None
        try:
            port = port_in(self.driver.stdout, r"started successfully on port (\d+)")
            self.session = f"http://127.0.0.1:{port}/session"
            options = {"args": ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                                f"--user-data-dir={folder}/profile"]}
            answer = self.send("", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
            self.session += "/" + answer["sessionId"]
        except BaseException:
            self.close()
            raise

    def send(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.session + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return json.load(answer)["value"]

    def run(self, script, *args):
        return self.send("/execute/sync", {"script": script, "args": args})

    def devtools(self, command, **params):
        self.send("/goog/cdp/execute", {"cmd": command, "params": params})

    def screenshot(self):
        return base64.b64decode(self.send("/screenshot"))

    def until_total(self, total):
        """Waits until the board shows this total of the product. What runs next runs in the board's frame."""
        self.send("/frame", {"id": None})
        frame = self.send("/element", {"using": "css selector", "value": "#board"})
        self.send("/frame", {"id": {ELEMENT: frame[ELEMENT]}})
        shown = (f"return document.querySelector('[data-id={PRODUCT}] > [slot=orders]')?.textContent === arguments[0]"
                 " && document.querySelector('#state').dataset.state === 'live'")
        deadline = time.monotonic() + DEADLINE
        while not self.run(shown, total):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the board does not show {total}")
            time.sleep(0.02)

    def close(self):
        if self.session:
            try:
                urllib.request.urlopen(urllib.request.Request(self.session, method="DELETE"), timeout=DEADLINE).close()
            except OSError:
                pass
        stop(self.driver)


def stop(process):
    process.terminate()
    try:
        process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def port_in(lines, pattern):
    """The port that a program prints; what it prints later is read and dropped."""
    for line in lines:
        if found := re.search(pattern, line):
            threading.Thread(target=lines.read, daemon=True).start()
            return int(found[1])
    raise RuntimeError(f"no line with {pattern}")


def command_of_readme():
    for line in (ROOT / "README.md").read_text().splitlines():
        if line.startswith("curl -X POST"):
            return line
    raise LookupError("README.md has no line that begins with: curl -X POST")


class Stage(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Film:
    """Frames, each with the time for which it is shown."""

    def __init__(self, browser, folder):
        self.browser, self.folder, self.frames = browser, pathlib.Path(folder), []

    def take(self, seconds):
        name = self.folder / f"{len(self.frames):04}.png"
        name.write_bytes(self.browser.screenshot())
        self.frames.append((name, seconds))

    def write(self, output):
        arguments = ["img2webp", "-loop", "0", "-min_size", "-mixed"]
        for name, seconds in self.frames:
            arguments += ["-lossless", "-m", "6", "-d", str(round(1000 * seconds)), name]
        subprocess.run([*arguments, "-o", output], check=True, stdout=subprocess.DEVNULL)
        size = pathlib.Path(output).stat().st_size
        length = sum(seconds for _, seconds in self.frames)
        print(f"{output}: {len(self.frames)} frames, {length:.1f} s, {size} bytes")
        if size > MAX_BYTES:
            raise RuntimeError(f"more than {MAX_BYTES} bytes")


def record(browser, film, stage, port, folder):
    screen = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": SCALE, "mobile": False}
    browser.devtools("Emulation.setDeviceMetricsOverride", **screen)
    browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.send("/url", {"url": f"{stage}/stage.html"})
    browser.run("document.querySelector('#board').src = arguments[0]", f"http://127.0.0.1:{port}/#electronics?wall")
    browser.until_total(BEFORE)
    # The board's animation stands still, and is moved from frame to frame: a busy machine takes pictures too seldom.
    browser.devtools("Animation.enable")
    browser.devtools("Animation.setPlaybackRate", playbackRate=0)

    def show(text):
        browser.send("/frame", {"id": None})
        browser.run("document.querySelector('#terminal').textContent = arguments[0]", text)

    command = command_of_readme()
    for end in range(0, len(command), LETTERS):
        show("$ " + command[:end])
        film.take(TYPING if end else PAUSE)
    show("$ " + command)
    film.take(PAUSE)
    pathlib.Path(folder, ".curlrc").write_text(f'silent\nshow-error\nconnect-to = "localhost:3000:127.0.0.1:{port}"\n')
    answer = subprocess.run(["sh", "-c", command], env=dict(os.environ, CURL_HOME=folder), stdout=subprocess.PIPE,
                            check=True, timeout=DEADLINE, text=True).stdout
    show(f"$ {command}\n{answer.rstrip()}\n$ ")
    browser.until_total(AFTER)
    duration = browser.run(f"""
        window.moved = document.querySelector('[data-id={PRODUCT}]').shadowRoot.getAnimations();
        return moved[0].effect.getTiming().duration""")
    for moment in range(0, round(duration), round(1000 * STEP)):
        browser.run("for (const each of moved) each.currentTime = arguments[0]", moment)
        film.take(STEP)
    browser.run("for (const each of moved) each.finish()")
    film.take(RESULT)


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/ordercast"
    output = sys.argv[2] if len(sys.argv) > 2 else ROOT / "docs/screenshots/order.webp"
    for tool in ["chromium", "chromedriver", "curl", "img2webp"]:
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: apt-get install chromium chromium-driver curl webp")
    handler = functools.partial(Stage, directory=str(HERE))
    with tempfile.TemporaryDirectory(prefix="ordercast-animation-", ignore_cleanup_errors=True) as folder, \
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        stage = f"http://127.0.0.1:{web.server_port}"
        server = subprocess.Popen(
            [binary, "--listen", "127.0.0.1:0", "--data", f"{folder}/data", "--allow-frame", stage],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            port = port_in(server.stdout, r"127\.0\.0\.1:(\d+)")
            browser = Browser(folder)
            try:
                film = Film(browser, folder)
                record(browser, film, stage, port, folder)
                film.write(output)
            finally:
                browser.close()
        finally:
            stop(server)
            web.shutdown()


if __name__ == "__main__":
    main()
