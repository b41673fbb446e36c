// The event stream itself; runs in the SharedWorker or, without one, in the tab that leads.

const SLOWEST = 30000;

/**
 * Keep one EventSource open.
 *
 * The browser reconnects by itself (with Last-Event-ID) after a lost line, but gives up on an error status; then a
 * new stream is opened, ever more slowly, with the last number in the address.
 *
 * @param {string} url address of the stream
 * @param {(change: object, number: number) => void} onChange called with {topic, ref, data}; the topic "*" says that
 *   more was missed than is told
 * @param {(state: string) => void} onState called with "on" or "off"
 * @param {string|number} since number of the newest change when the page was made; later ones are told first
 * @returns {() => void} closes the stream
 */
export function openSource(url, onChange, onState, since = "") {
  let source = null;
  let timer = 0;
  let wait = 1000;
  let last = String(since);

  const receive = (event) => {
    if (event.lastEventId) last = event.lastEventId;
    try {
      onChange(JSON.parse(event.data), Number(last));
    } catch {
      // A line that is no JSON is a heartbeat.
    }
  };

  const open = () => {
    const address = last ? `${url}${url.includes("?") ? "&" : "?"}last_event_id=${encodeURIComponent(last)}` : url;
    source = new EventSource(address);
    source.addEventListener("open", () => {
      wait = 1000;
      onState("on");
    });
    source.addEventListener("message", receive);
    source.addEventListener("change", receive);
    source.addEventListener("error", () => {
      onState("off");
      if (source.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, SLOWEST);
    });
  };

  open();
  return () => {
    clearTimeout(timer);
    source?.close();
  };
}
