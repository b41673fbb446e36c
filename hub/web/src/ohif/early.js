/*
 * Asks for what opening a study takes while the browser still reads the viewer: a plain script before the others. The hub
 * has written into the page what that is (hub/studies/opening.py).
 *
 * The viewer asks for the study, its series, their headers and the first image one after the other, and begins only when
 * all of it runs. What was fetched with the header X-Hub-Opening may be taken from the browser's cache for some seconds, so
 * the viewer's own requests find their answers there. Nothing depends on it: what does not come is asked for by the viewer.
 */
(() => {
  const ROOT = "/viewer/dicomweb";
  const JSON_TYPE = "application/dicom+json";
  const FRAME_TYPE = "multipart/related; type=application/octet-stream; transfer-syntax=*";
  // As the viewer writes them: another spelling would be another answer.
  const OF_STUDY = "limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030";
  const OF_SERIES = "includefield=00080021%2C00080031%2C0008103E%2C00200011";
  const AT_MOST = 48 * 1024 * 1024;
  const AT_ONCE = 3;

  let stopped = false;
  const kept = [];

  // A body that nobody reads holds its connection.
  const read = (response) => response.arrayBuffer();

  self.hubEarly = {
    /** The viewer shows images: it fetches the others itself, and asks again what a study holds now. */
    stop() {
      if (stopped) return;
      stopped = true;
      for (const path of kept) {
        fetch(ROOT + path, { headers: { Accept: JSON_TYPE }, cache: "no-cache", priority: "low" }).then(read).catch(() => {});
      }
    },
  };

  const block = document.getElementById("hub-opening");
  const studies = block ? JSON.parse(block.textContent) : [];
  const language = new URLSearchParams(location.search).get("lng");

  // Answers differ by cookie, and the viewer is going to remember its language in one: it stands there from the beginning.
  if (language || !/(?:^|; )i18next=/.test(document.cookie)) {
    const own = language ?? localStorage.getItem("i18nextLng") ?? navigator.language;
    document.cookie = `i18next=${encodeURIComponent(own)}; path=/`;
  }

  async function take(path, accept, priority) {
    // Whatever the browser holds from before is asked about.
    const response = await fetch(ROOT + path, { headers: { Accept: accept, "X-Hub-Opening": "1" }, cache: "no-cache", priority });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return response;
  }

  /** When the line is free: all that the page has asked for is here, from the cache or over the line. */
  async function scriptsHere() {
    const wanted = () => [...document.querySelectorAll("script[src], link[rel=preload]")].map((one) => one.src || one.href);
    const here = () => {
      const seen = new Set(performance.getEntriesByType("resource").map(({ name }) => name));
      return document.readyState !== "loading" && wanted().every((name) => seen.has(name));
    };
    const until = Date.now() + 30_000;
    while (!stopped && Date.now() < until && !here()) {
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  async function run() {
    const frame = async (path, priority) => (await read(await take(path, FRAME_TYPE, priority))).byteLength;
    const stacks = studies.map(({ study, stack, images }) =>
      images.map((sop) => `/studies/${study}/series/${stack}/instances/${sop}/frames/1`),
    );
    for (const { study, series } of studies) {
      kept.push(`/studies?${OF_STUDY}&StudyInstanceUID=${study}`, `/studies/${study}/series?${OF_SERIES}`);
      kept.push(...series.map((uid) => `/studies/${study}/series/${uid}/metadata`));
    }
    // All at once: none of them waits for another, nor for the scripts that are read meanwhile.
    for (const path of kept) take(path, JSON_TYPE, "high").then(read).catch(() => {});
    const first = stacks.flatMap((stack) => stack.slice(0, 1));
    let bytes = (await Promise.all(first.map((path) => frame(path, "high")))).reduce((sum, one) => sum + one, 0);
    await scriptsHere();
    const others = stacks.flatMap((stack) => stack.slice(1)).values();
    async function one() {
      for (const path of others) {
        if (stopped || document.hidden || bytes > AT_MOST) return;
        bytes += await frame(path, "low");
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, one));
  }

  run().catch(() => {});
})();
