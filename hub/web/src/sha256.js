// SHA-256 (FIPS 180-4) of bytes, in hex. Browsers give crypto.subtle only over TLS or on loopback; a hub inside a
// county's network may have neither, so there is a plain implementation beside it.
const K = new Uint32Array(64);
const START = new Uint32Array(8);
{
  let found = 0;
  for (let n = 2; found < 64; n += 1) {
    let prime = true;
    for (let d = 2; d * d <= n; d += 1) if (n % d === 0) prime = false;
    if (!prime) continue;
    const fraction = (value) => Math.floor((value - Math.floor(value)) * 2 ** 32);
    if (found < 8) START[found] = fraction(Math.sqrt(n));
    K[found] = fraction(Math.cbrt(n));
    found += 1;
  }
}

function block(state, words, view, at) {
  for (let i = 0; i < 16; i += 1) words[i] = view.getUint32(at + i * 4);
  for (let i = 16; i < 64; i += 1) {
    const a = words[i - 15];
    const b = words[i - 2];
    const s0 = ((a >>> 7) | (a << 25)) ^ ((a >>> 18) | (a << 14)) ^ (a >>> 3);
    const s1 = ((b >>> 17) | (b << 15)) ^ ((b >>> 19) | (b << 13)) ^ (b >>> 10);
    words[i] = (words[i - 16] + s0 + words[i - 7] + s1) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i += 1) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + words[i]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  const next = [a, b, c, d, e, f, g, h];
  for (let i = 0; i < 8; i += 1) state[i] = (state[i] + next[i]) | 0;
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const pause = () => new Promise((resolve) => setTimeout(resolve, 0));

/** The hash in plain script; yields to the page every few megabytes. */
export async function sha256Plain(buffer) {
  const size = buffer.byteLength;
  const state = Uint32Array.from(START);
  const words = new Int32Array(64);
  const whole = size - (size % 64);
  const view = new DataView(buffer);
  for (let at = 0; at < whole; at += 64) {
    block(state, words, view, at);
    if (at % (4 << 20) === 0 && at) await pause();
  }
  const tail = new Uint8Array(size % 64 < 56 ? 64 : 128);
  tail.set(new Uint8Array(buffer, whole));
  tail[size % 64] = 0x80;
  const end = new DataView(tail.buffer);
  end.setUint32(tail.length - 8, Math.floor(size / 2 ** 29));
  end.setUint32(tail.length - 4, (size * 8) % 2 ** 32);
  for (let at = 0; at < tail.length; at += 64) block(state, words, end, at);
  const out = new Uint8Array(32);
  state.forEach((word, i) => new DataView(out.buffer).setUint32(i * 4, word));
  return hex(out);
}

/** SHA-256 of an ArrayBuffer in hex. */
export async function sha256(buffer) {
  if (globalThis.crypto?.subtle) return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", buffer)));
  return sha256Plain(buffer);
}
