"""The same backend in Python, without any package: WEBHOOK_SECRET=… python3 backend.py"""

import hashlib
import hmac
import http.cookies
import http.server
import json
import os
import time


def connect(q, cookies):
    if "session" not in cookies:
        return {"disconnect": {"code": 4501, "reason": "log in first"}}
    user = cookies["session"].value
    return {"result": {"user": user, "info": {"name": user.upper()}, "expire_at": int(time.time()) + 300}}


def subscribe(q, cookies):
    if not q["channel"].startswith("room:"):
        return {"error": {"code": 403, "message": "not yours"}}
    return {"result": {"data": {"topic": "ponds"}}}


ANSWERS = {
    "/connect": connect,
    "/refresh": lambda q, _: {"result": {"expire_at": int(time.time()) + 300}},
    "/subscribe": subscribe,
    "/publish": lambda q, _: {"result": {"data": {"by": q.get("user", ""), "text": q["data"]}}},
    "/rpc": lambda q, _: {"result": {"data": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}}
    if q.get("method") == "time" else {"error": {"code": 404, "message": "no such method"}},
}


def signed(secret, value, body):
    """Check X-Millpond-Signature: t=SECONDS,v1=HEX."""
    parts = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
    want = hmac.new(secret, parts.get("t", "").encode() + b"." + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(want, parts.get("v1", "")):
        return False
    return abs(time.time() - int(parts["t"])) < 300


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = ANSWERS.get(self.path)
        if answer is None or not signed(os.environ["WEBHOOK_SECRET"].encode(), self.headers.get("X-Millpond-Signature", ""), body):
            self.reply(404 if answer is None else 400, b"")
            return
        cookies = http.cookies.SimpleCookie(self.headers.get("Cookie", ""))
        self.reply(200, json.dumps(answer(json.loads(body), cookies)).encode())

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Backend)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
