"""Verifies one captured delivery as a receiver in Python would. Input and exit codes: README.md beside this file."""

import base64
import hashlib
import hmac
import json
import sys
import time

TOLERANCE_SECONDS = 300


def verify_standard(secret, headers, body):
    """`webhook-id`, `webhook-timestamp`, `webhook-signature`, by the official library."""
    Webhook(secret).verify(body, headers, json_parse=False)


def verify_x_signature(secret, headers, body):
    """`x-signature: t=<unix seconds>,v1=<hex of HMAC-SHA256(secret, "<t>.<body>")>[,v1=...]`."""
    parts = [part.partition("=")[::2] for part in headers.get("x-signature", "").split(",")]
    signed_at = next((value for name, value in parts if name == "t"), "")
    if not (signed_at.isascii() and signed_at.isdigit()):
        raise ValueError("there is no t=")
    if abs(time.time() - int(signed_at)) > TOLERANCE_SECONDS:
        raise ValueError("t= is too far from now")
    expected = hmac.new(secret.encode(), signed_at.encode() + b"." + body, hashlib.sha256).hexdigest()
    given = [value for name, value in parts if name == "v1"]
    if not any(hmac.compare_digest(one.encode(), expected.encode()) for one in given):
        raise ValueError("no v1= matches")


CHECKS = {"standard": verify_standard, "x-signature": verify_x_signature}

try:
    from standardwebhooks.webhooks import Webhook

    given = json.load(sys.stdin)
    delivery = (
        given["secret"],
        {name.lower(): value for name, value in given["headers"].items()},
        base64.b64decode(given["body_base64"], validate=True),
    )
    checks = [(name, CHECKS[name]) for name in given.get("verify", list(CHECKS))]
    if not checks:
        raise ValueError("nothing to verify")
except Exception as error:
    print(f"not checked: {error!r}", file=sys.stderr)
    sys.exit(2)

failed = False
for name, check in checks:
    try:
        check(*delivery)
    except Exception as error:
        failed = True
        print(f"{name}: {error or type(error).__name__}", file=sys.stderr)
sys.exit(1 if failed else 0)
