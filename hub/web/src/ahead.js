// Fetches the images of the exam that will be next while the doctor writes: into the browser's cache, from which the
// viewer takes them after the hub has said that they still hold. The header says that nobody looks at them yet.
const ROOT = "/viewer/dicomweb";
const HEADERS = { "X-Hub-Ahead": "1" };
const SERIES_FIELDS = "00080021%2C00080031%2C0008103E%2C00200011";
const AT_MOST = 200 * 1024 * 1024;
const QUIET = 4000;

/** Frames in the order in which they will be wanted: the middle of each series, then outwards. */
export function outwards(count) {
  const middle = Math.floor(count / 2);
  const order = Array.from({ length: count }, (_, index) => index);
  return order.sort((one, two) => Math.abs(one - middle) - Math.abs(two - middle) || two - one);
}

/** One reader's fetching ahead. `may()` answers whether the viewer needs the line no more. */
export function fetchAhead(may) {
  let turn = 0;
  let control = new AbortController();
  let quietFrom = 0;

  async function take(url, accept) {
    for (;;) {
      const mine = turn;
      while (Date.now() < quietFrom || !(await may())) {
        await new Promise((done) => setTimeout(done, 500));
        if (mine !== turn) throw new DOMException("superseded", "AbortError");
      }
      try {
        const response = await fetch(url, { headers: { ...HEADERS, Accept: accept }, priority: "low", signal: control.signal });
        if (!response.ok) throw new Error(`HTTP ${response.status}`);
        return await response.arrayBuffer();
      } catch (error) {
        // A pause aborts what is under way; a new exam ends it all.
        if (error.name !== "AbortError" || mine !== turn) throw error;
      }
    }
  }

  const json = async (url) => JSON.parse(new TextDecoder().decode(await take(url, "application/dicom+json")));
  const value = (dataset, tag) => dataset[tag]?.Value?.[0];

  async function stacks(study) {
    const found = [];
    for (const one of await json(`${ROOT}/studies/${study}/series?includefield=${SERIES_FIELDS}`)) {
      const series = value(one, "0020000E");
      const instances = await json(`${ROOT}/studies/${study}/series/${series}/metadata`);
      instances.sort((a, b) => (value(a, "00200013") ?? 0) - (value(b, "00200013") ?? 0));
      const frames = instances.flatMap((instance) => {
        if (value(instance, "00280010") === undefined) return [];
        const address = `${ROOT}/studies/${study}/series/${series}/instances/${value(instance, "00080018")}/frames/`;
        return Array.from({ length: Number(value(instance, "00280008") ?? 1) }, (_, index) => address + (index + 1));
      });
      found.push(outwards(frames.length).map((index) => frames[index]));
    }
    return found;
  }

  async function run(studies) {
    const mine = turn;
    const all = [];
    for (const study of studies) all.push(...(await stacks(study)));
    const wanted = [...all.map((stack) => stack.slice(0, 1)).flat(), ...all.map((stack) => stack.slice(1)).flat()];
    let bytes = 0;
    for (const url of wanted) {
      if (mine !== turn || bytes > AT_MOST) return;
      bytes += (await take(url, "multipart/related; type=application/octet-stream; transfer-syntax=*")).byteLength;
    }
  }

  return {
    /** Fetch these studies and no others. */
    start(studies) {
      this.stop();
      run(studies).catch(() => {
        // What did not come will be fetched when it is opened.
      });
    },
    /** Somebody works with the images: leave the line to him for a while. */
    pause() {
      quietFrom = Date.now() + QUIET;
      control.abort();
      control = new AbortController();
    },
    stop() {
      turn += 1;
      control.abort();
      control = new AbortController();
    },
  };
}
