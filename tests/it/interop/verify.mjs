// Verifies one captured delivery as a receiver in Node would. Input and exit codes: README.md beside this file.

import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const TOLERANCE_SECONDS = 300;

function fromInterop(name) {
  const root = fileURLToPath(new URL("../../../target/interop", import.meta.url));
  return createRequire(`${process.env.POMBO_INTEROP_DIR ?? root}/node/`)(name);
}

/** `webhook-id`, `webhook-timestamp`, `webhook-signature`, by the official library. */
function verifyStandard({ secret, headers, body }) {
  new Webhook(secret).verify(body, headers, { jsonParse: false });
}

/** `x-signature: t=<unix seconds>,v1=<hex of HMAC-SHA256(secret, "<t>.<body>")>[,v1=...]`. */
function verifyXSignature({ secret, headers, body }) {
  const parts = (headers["x-signature"] ?? "").split(",").map((part) => part.split("="));
  const time = parts.find(([name]) => name === "t")?.[1] ?? "";
  if (!/^\d+$/.test(time)) throw new Error("there is no t=");
  if (Math.abs(Date.now() / 1000 - Number(time)) > TOLERANCE_SECONDS) throw new Error("t= is too far from now");
  const expected = createHmac("sha256", secret).update(`${time}.`).update(body).digest();
  const given = parts.filter(([name]) => name === "v1").map(([, hex]) => Buffer.from(hex, "hex"));
  if (!given.some((one) => one.length === expected.length && timingSafeEqual(one, expected))) {
    throw new Error("no v1= matches");
  }
}

const CHECKS = { standard: verifyStandard, "x-signature": verifyXSignature };

let Webhook;
let delivery;
let checks;
try {
  ({ Webhook } = fromInterop("standardwebhooks"));
  const input = JSON.parse(readFileSync(0, "utf8"));
  const headers = Object.fromEntries(Object.entries(input.headers).map(([name, value]) => [name.toLowerCase(), value]));
  delivery = { secret: input.secret, headers, body: Buffer.from(input.body_base64, "base64") };
  checks = (input.verify ?? Object.keys(CHECKS)).map((name) => {
    if (!Object.hasOwn(CHECKS, name)) throw new Error(`unknown check ${name}`);
    return [name, CHECKS[name]];
  });
  if (checks.length === 0) throw new Error("nothing to verify");
} catch (error) {
  console.error(`not checked: ${error.message}`);
  process.exit(2);
}

let failed = false;
for (const [name, check] of checks) {
  try {
    check(delivery);
  } catch (error) {
    failed = true;
    console.error(`${name}: ${error.message}`);
  }
}
process.exit(failed ? 1 : 0);
