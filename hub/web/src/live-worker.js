// One stream for all tabs of the browser (browsers allow six connections per host).
import { openSource } from "./live-source.js";

const ports = new Map();
let close = null;
let current = "";
let state = "connecting";
let newest = 0;

function tell(message) {
  for (const port of ports.keys()) port.postMessage(message);
}

function start(key, url, since) {
  close?.();
  current = key;
  state = "connecting";
  newest = since;
  close = openSource(
    url,
    (change, number) => {
      newest = Math.max(newest, number);
      tell({ kind: "change", change, number });
    },
    (next) => {
      state = next;
      tell({ kind: "state", state });
    },
    since,
  );
}

// A closed or crashed tab does not say goodbye: tabs call in, and the silent ones are forgotten.
setInterval(() => {
  const oldest = Date.now() - 180000;
  for (const [port, seen] of ports) if (seen < oldest) ports.delete(port);
  if (ports.size === 0 && close) {
    close();
    close = null;
    current = "";
  }
}, 60000);

self.addEventListener("connect", (event) => {
  const [port] = event.ports;
  port.addEventListener("message", ({ data }) => {
    if (data.kind === "bye") {
      ports.delete(port);
      return;
    }
    ports.set(port, Date.now());
    if (data.kind !== "hello") return;
    // Another user on the same machine has another stream.
    const key = `${data.user}|${data.url}`;
    if (key !== current || !close) start(key, data.url, data.since);
    port.postMessage({ kind: "state", state });
    // Something changed after the page was made and before it could listen.
    if (newest > data.since) port.postMessage({ kind: "change", change: { topic: "*", ref: "", data: {} } });
  });
  port.start();
});
