"""Run by tests as a program, for a web server of the stack: fake_parts.py PORT [deaf|fails|hangs]."""

import http.server
import os
import signal
import sys
import threading
import time
from pathlib import Path

behaviour = sys.argv[2] if len(sys.argv) > 2 else ""
print("\n".join(f"line {i}" for i in range(40)), flush=True)
if behaviour == "fails":
    sys.exit("cannot work")
if behaviour == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if behaviour == "hangs":
    time.sleep(600)
stuck = Path(os.environ["STUCK_FILE"]) if "STUCK_FILE" in os.environ else None


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if stuck and stuck.exists():
            time.sleep(600)
        self.send_response(503 if stuck and stuck.with_name("unavailable").exists() else 200)
        self.end_headers()
        if self.path == "/leave":
            threading.Thread(target=os._exit, args=(3,)).start()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Healthy).serve_forever()
