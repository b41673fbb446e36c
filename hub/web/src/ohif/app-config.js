/*
 * How OHIF runs within the hub. Built into a plain script: OHIF reads window.config.
 *
 * The page around the frame speaks over postMessage (see ../viewer.js). To the page:
 *   {hub: "ready"} · {hub: "study", studies, patient, series, sop} · {hub: "shown", viewport} ·
 *   {hub: "measurements", list} · {hub: "annotations", list} · {hub: "http-error", status} ·
 *   {hub: "reply", id, ok, result | error}
 * From the page: {hub: "call", id, name, args}, with a name of `calls` below.
 */
import { drawn } from "../viewing/drawn.js";

(() => {
  const ROOT = "/viewer/dicomweb";
  // The build puts the English words of this file before it.
  const english = (new URLSearchParams(location.search).get("lng") ?? "zh").startsWith("zh") ? {} : (self.hubEnglish ?? {});
  const t = (text) => english[text] ?? text;
  let services = null;
  let commands = null;

  function tell(message) {
    if (window.parent !== window) window.parent.postMessage(message, location.origin);
  }

  // --- what is on the screen ---------------------------------------------------------------------------------

  function plainName(name) {
    const first = Array.isArray(name) ? name[0] : name;
    const text = first && typeof first === "object" ? first.Ideographic || first.Alphabetic : first;
    // A Chinese name is written as one word.
    return String(text ?? "").replace(/\^+/g, /[\u3400-\u9fff]/.test(text ?? "") ? "" : " ").trim();
  }

  const only = (sequence) => (Array.isArray(sequence) ? sequence[0] : sequence);
  const day = (text) => String(text ?? "").replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");

  /** What the sender had written of the patient, as far as the registration says otherwise. */
  function asSent(instance) {
    const before = only(only(instance?.OriginalAttributesSequence)?.ModifiedAttributesSequence);
    if (!before) return "";
    const told = [];
    const name = plainName(before.PatientName);
    if (name && name !== plainName(instance.PatientName)) told.push(name);
    if (before.PatientSex && before.PatientSex !== (instance.PatientSex ?? "")) told.push(before.PatientSex);
    if (before.PatientBirthDate && before.PatientBirthDate !== (instance.PatientBirthDate ?? "")) told.push(day(before.PatientBirthDate));
    return told.join(" ");
  }

  function activeViewport() {
    const id = services.viewportGridService.getActiveViewportId();
    return id ? services.cornerstoneViewportService.getCornerstoneViewport(id) : null;
  }

  function activeDisplaySet() {
    const grid = services.viewportGridService;
    const [uid] = grid.getDisplaySetsUIDsForViewport?.(grid.getActiveViewportId()) ?? [];
    return uid ? services.displaySetService.getDisplaySetByUID(uid) : null;
  }

  function currentInstance() {
    const viewport = activeViewport();
    const imageId = viewport?.getCurrentImageId?.();
    return imageId ? { imageId, ...window.cornerstone.metaData.get("instance", imageId) } : null;
  }

  /** StudyInstanceUIDs of what the viewports hold. */
  function onScreen() {
    const { viewportGridService, displaySetService } = services;
    const found = new Set();
    for (const [id, viewport] of viewportGridService.getState().viewports) {
      for (const uid of viewport.displaySetInstanceUIDs ?? []) {
        const study = displaySetService.getDisplaySetByUID(uid)?.StudyInstanceUID;
        if (study) found.add(study);
      }
      // What is painted counts, whatever the grid believes.
      const imageId = services.cornerstoneViewportService.getCornerstoneViewport(id)?.getCurrentImageId?.();
      const painted = imageId && /\/studies\/([0-9.]+)\//.exec(imageId)?.[1];
      if (painted) found.add(painted);
    }
    return [...found];
  }

  function stands(wanted) {
    const now = onScreen();
    return now.length > 0 && now.every((study) => wanted.includes(study));
  }

  async function until(condition, within) {
    const end = performance.now() + within;
    while (performance.now() < end) {
      if (condition()) return true;
      await new Promise((done) => setTimeout(done, 25));
    }
    return false;
  }

  let opening = 0;
  let entered = 0;
  let lastStudy = "";

  function reportStudy() {
    const displaySet = activeDisplaySet();
    if (!displaySet) return;
    const instance = displaySet.instances?.[0] ?? displaySet.instance ?? {};
    const message = {
      hub: "study",
      studies: [...new Set(services.displaySetService.getActiveDisplaySets().map((set) => set.StudyInstanceUID))],
      shown: onScreen(),
      stacks: services.displaySetService.getActiveDisplaySets().filter((set) => set.numImageFrames > 0).length,
      volume: Boolean(displaySet.isReconstructable),
      active: displaySet.StudyInstanceUID,
      series: displaySet.SeriesInstanceUID,
      modality: displaySet.Modality ?? instance.Modality ?? "",
      patient: { id: String(instance.PatientID ?? ""), name: plainName(instance.PatientName) },
    };
    const text = JSON.stringify(message);
    if (text === lastStudy) return;
    lastStudy = text;
    tell(message);
  }

  // --- measurements and drawings -----------------------------------------------------------------------------

  /** The study of an image by its address; what a header says of itself is not asked. */
  const studyOf = (imageId) => /\/studies\/([0-9.]+)\//.exec(imageId ?? "")?.[1] ?? "";

  const NUMBERS = ["length", "width", "area", "mean", "stdDev", "max", "min", "angle", "value"];
  const UNITS = ["unit", "areaUnit", "modalityUnit"];

  /** What a tool has calculated: numbers and their units, as Cornerstone keeps them for one image. */
  function statistics(uid) {
    const [found] = Object.values(window.cornerstoneTools.annotation.state.getAnnotation(uid)?.data?.cachedStats ?? {});
    const kept = {};
    for (const name of NUMBERS) if (Number.isFinite(found?.[name])) kept[name] = found[name];
    for (const name of UNITS) if (typeof found?.[name] === "string") kept[name] = found[name];
    return kept;
  }

  function measurements() {
    return services.measurementService.getMeasurements().map((one) => {
      const imageId = window.cornerstoneTools.annotation.state.getAnnotation(one.uid)?.metadata?.referencedImageId ?? "";
      const instance = imageId ? (window.cornerstone.metaData.get("instance", imageId) ?? {}) : {};
      return {
        uid: one.uid,
        tool: one.toolName ?? one.type ?? "",
        label: one.label ?? "",
        text: [one.displayText?.primary, one.displayText?.secondary, Array.isArray(one.displayText) ? one.displayText : []]
          .flat(2)
          .filter((line) => typeof line === "string" && line !== ""),
        statistics: statistics(one.uid),
        study: studyOf(imageId) || (one.referenceStudyUID ?? ""),
        series: one.referenceSeriesUID ?? "",
        sop: one.SOPInstanceUID ?? "",
        frame: Number(/\/frames\/(\d+)/.exec(imageId)?.[1] ?? one.frameNumber ?? 1),
        frames: Number(instance.NumberOfFrames ?? 1),
        modality: instance.Modality ?? "",
        series_number: Number(instance.SeriesNumber ?? 0),
        image_number: Number(instance.InstanceNumber ?? 0),
      };
    });
  }

  let latest = "";

  /** The measurement that is marked, else the one drawn or changed last; one by its uid. */
  function measure(uid) {
    const found = measurements();
    const marked = window.cornerstoneTools.annotation.selection.getAnnotationsSelected?.() ?? [];
    for (const wanted of uid ? [uid] : [...[...marked].reverse(), latest, found.at(-1)?.uid]) {
      const one = found.find((other) => other.uid === wanted);
      if (one) return { ...one, drawing: drawings().find(({ annotationUID }) => annotationUID === one.uid) ?? null };
    }
    return null;
  }

  // Lines that tools draw for themselves are nobody's finding.
  const HELPERS = new Set(["ReferenceLines", "Crosshairs", "ScaleOverlay", "OverlayGrid", "OrientationMarker"]);

  const HELD_FOR = 10000;

  const own = ({ metadata }) => metadata && !HELPERS.has(metadata.toolName);

  // A typed array would become an object with numbers for names.
  const plain = (_name, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);

  /** Drawings on images of this frame, as plain objects; those on a plane between the images have no image. */
  function drawings() {
    const all = window.cornerstoneTools.annotation.state.getAllAnnotations();
    return all
      .filter((one) => own(one) && studyOf(one.metadata.referencedImageId))
      .map((one) => JSON.parse(JSON.stringify(one, plain)));
  }

  /** Names of the drawings that the page knows to stand here. */
  let stood = new Set();

  /** Put drawings back; those whose image is not of the studies in the viewports stay away. */
  function restore(list) {
    const { annotation: { state }, Enums } = window.cornerstoneTools;
    const { eventTarget, triggerEvent } = window.cornerstone;
    const here = services.displaySetService.getActiveDisplaySets().map((set) => set.StudyInstanceUID);
    let added = 0;
    for (const kept of list) {
      const one = structuredClone(kept);
      const study = studyOf(one.metadata?.referencedImageId);
      if (!study || !here.includes(study) || state.getAnnotation(one.annotationUID)) continue;
      one.invalidated = true;
      one.highlighted = false;
      one.isSelected = false;
      state.addAnnotation(one, one.metadata.FrameOfReferenceUID);
      stood.add(one.annotationUID);
      // The panel and the page hear of a drawing when it is complete.
      triggerEvent(eventTarget, Enums.Events.ANNOTATION_COMPLETED, { annotation: one });
      added += 1;
    }
    services.cornerstoneViewportService.getRenderingEngine?.()?.render();
    // The page leaves what it is told before its drawings are back: it is told once more how they stand.
    measurementsChanged();
    return added;
  }

  /**
   * What was changed elsewhere: `put` in the place of those of the same name, those named in `drop` away. What stands
   * here otherwise than the page has seen it was changed since it was told, and is left: the answer says how it stands.
   */
  async function sync(put, drop, seen) {
    // What is under the hand would go on as a drawing that nobody holds.
    await until(() => !held, HELD_FOR);
    const { state } = window.cornerstoneTools.annotation;
    const now = new Map(drawings().map((one) => [one.annotationUID, one]));
    const left = [];
    const free = (uid) => {
      const one = now.get(uid) ?? null;
      if (one ? drawn(one) === seen[uid] : !(uid in seen && stood.has(uid))) return true;
      left.push({ uid, drawing: one });
      return false;
    };
    const away = drop.filter(free);
    const here = put.filter(({ annotationUID }) => free(annotationUID));
    for (const uid of [...away, ...here.map(({ annotationUID }) => annotationUID)]) {
      if (state.getAnnotation(uid)) state.removeAnnotation(uid);
      stood.delete(uid);
    }
    for (const { uid, drawing } of left) if (!drawing) stood.delete(uid);
    // The page leaves what it is told meanwhile; restoring tells once more how the drawings stand.
    restore(here);
    return left;
  }

  /** Nothing that was drawn on other studies stays: two of them may claim one frame of reference. */
  function clearOthers(wanted) {
    const { state } = window.cornerstoneTools.annotation;
    for (const one of [...state.getAllAnnotations()]) {
      if (own(one) && !wanted.includes(studyOf(one.metadata.referencedImageId))) state.removeAnnotation(one.annotationUID);
    }
  }

  // UPDATED comes with every movement of the mouse.
  // On the way to another study OHIF clears everything: that must not reach the page as "all drawings deleted".
  let changed = 0;
  let settled = false;
  function measurementsChanged({ measurement } = {}) {
    clearTimeout(changed);
    if (!settled) return;
    if (measurement?.uid) latest = measurement.uid;
    changed = setTimeout(() => {
      const study = activeDisplaySet()?.StudyInstanceUID ?? "";
      tell({ hub: "measurements", study, list: measurements() });
      const loaded = [...new Set(services.displaySetService.getActiveDisplaySets().map((set) => set.StudyInstanceUID))];
      const list = drawings();
      stood = new Set(list.map(({ annotationUID }) => annotationUID));
      tell({ hub: "annotations", study, list, loaded });
    }, 600);
  }

  function unsettle() {
    settled = false;
    latest = "";
    stood = new Set();
    clearTimeout(changed);
  }

  // --- key images --------------------------------------------------------------------------------------------

  function drawingImage(svg, width, height) {
    const copy = svg.cloneNode(true);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", String(width));
    copy.setAttribute("height", String(height));
    const box = svg.getBoundingClientRect();
    copy.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    const image = new Image();
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
    return image.decode().then(() => image);
  }

  /** Which image this is and how it is windowed; whose report it belongs to says `stamp`, a number and no name. */
  function caption(viewport, stamp) {
    const instance = currentInstance() ?? {};
    const where = [];
    if (instance.SeriesNumber !== undefined) where.push(`Se ${instance.SeriesNumber}`);
    if (instance.InstanceNumber !== undefined) where.push(`Im ${instance.InstanceNumber}`);
    const frame = Number(/\/frames\/(\d+)/.exec(instance.imageId ?? "")?.[1] ?? 1);
    if (Number(instance.NumberOfFrames ?? 1) > 1) where.push(`Fr ${frame}`);
    const range = viewport.getProperties?.().voiRange;
    const { windowWidth, windowCenter } = range ? window.cornerstone.utilities.windowLevel.toWindowLevel(range.lower, range.upper) : {};
    const shades = range ? `W ${Math.round(windowWidth)}  L ${Math.round(windowCenter)}` : "";
    return [stamp, where.join("  "), shades].filter(Boolean);
  }

  function burn(pen, width, height, lines) {
    const size = Math.max(11, Math.min(20, Math.round(height / 40)));
    pen.font = `${size}px sans-serif`;
    pen.textBaseline = "bottom";
    pen.lineJoin = "round";
    pen.lineWidth = Math.max(2, size / 5);
    pen.strokeStyle = "#000";
    pen.fillStyle = "#fff";
    [...lines].reverse().forEach((line, index) => {
      const at = [Math.round(size / 2), Math.round(height - size / 2 - index * size * 1.25)];
      pen.strokeText(line, ...at);
      pen.fillText(line, ...at);
    });
  }

  async function capture({ type = "image/png", quality = 0.92, stamp = "" } = {}) {
    const viewport = activeViewport();
    if (!viewport) throw new Error("no viewport");
    viewport.render();
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const source = viewport.getCanvas?.() ?? viewport.canvas;
    const canvas = document.createElement("canvas");
    canvas.width = source.width;
    canvas.height = source.height;
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(source, 0, 0);
    const svg = viewport.element.querySelector("svg.svg-layer") ?? viewport.element.querySelector("svg");
    if (svg) pen.drawImage(await drawingImage(svg, canvas.width, canvas.height), 0, 0);
    const lines = caption(viewport, stamp);
    burn(pen, canvas.width, canvas.height, lines);
    const instance = currentInstance() ?? {};
    const frame = /\/frames\/(\d+)/.exec(instance.imageId ?? "");
    const blob = await new Promise((done) => canvas.toBlob(done, type, quality));
    return {
      blob,
      width: canvas.width,
      height: canvas.height,
      lines,
      study: studyOf(instance.imageId) || (activeDisplaySet()?.StudyInstanceUID ?? ""),
      series: instance.SeriesInstanceUID ?? "",
      sop: instance.SOPInstanceUID ?? "",
      frame: frame ? Number(frame[1]) : 1,
    };
  }

  // --- from a word of the report to its image ----------------------------------------------------------------------

  /** Bring an image up, in the viewport that holds its stack or the active one, and mark a drawing on it. */
  async function showImage({ sop, frame = 1, uid = "", drawing = null }) {
    const set = services.displaySetService
      .getActiveDisplaySets()
      .find(({ instances = [], instance }) => [...instances, instance].some((one) => one?.SOPInstanceUID === sop));
    if (!set) throw new Error("the image is not of the studies that are open");
    if (drawing) restore([drawing]);
    const grid = services.viewportGridService;
    const holds = ([, one]) => one.displaySetInstanceUIDs?.includes(set.displaySetInstanceUID);
    let id = [...grid.getState().viewports].find(holds)?.[0];
    if (id) {
      grid.setActiveViewportId(id);
    } else {
      id = grid.getActiveViewportId();
      grid.setDisplaySetsForViewports([{ viewportId: id, displaySetInstanceUIDs: [set.displaySetInstanceUID] }]);
    }
    const place = () => {
      const viewport = services.cornerstoneViewportService.getCornerstoneViewport(id);
      const ids = viewport?.getImageIds?.() ?? [];
      const at = ids.findIndex((one) => one.includes(`/instances/${sop}/`) && Number(/\/frames\/(\d+)/.exec(one)?.[1] ?? 1) === frame);
      return at < 0 ? null : [viewport, at];
    };
    if (!(await until(place, 15000))) throw new Error("the image did not come");
    const [viewport, at] = place();
    await window.cornerstone.utilities.jumpToSlice(viewport.element, { imageIndex: at });
    const painted = () => viewport.getCurrentImageId?.()?.includes(`/instances/${sop}/`);
    if (!(await until(painted, 15000))) throw new Error("the image did not come");
    if (uid && window.cornerstoneTools.annotation.state.getAnnotation(uid)) {
      window.cornerstoneTools.annotation.selection.setAnnotationSelected(uid, true, false);
    }
    viewport.render();
    return true;
  }

  // --- what the page may ask ---------------------------------------------------------------------------------

  const calls = {
    /** A page that came too late for the first "ready" asks for another. */
    hello() {
      if (services) tell({ hub: "ready" });
    },
    /**
     * Another study without reloading: OHIF's own router sees a step in the history. Answers when studies of the
     * address stand in the viewports and no other does; fails where that does not come about.
     */
    async open(search) {
      unsettle();
      lastStudy = "";
      const wanted = new URLSearchParams(search).get("StudyInstanceUIDs").split(",");
      clearOthers(wanted);
      const address = new URL(location.href);
      address.search = search;
      opening += 1;
      const turn = opening;
      const before = entered;
      const same = address.href === location.href;
      history[same ? "replaceState" : "pushState"]({}, "", address);
      window.dispatchEvent(new PopStateEvent("popstate", { state: history.state }));
      const found = await until(() => turn !== opening || (entered > before && stands(wanted)), 12000);
      if (turn !== opening) throw new Error("another study was asked for");
      if (!found) throw new Error("the study did not open");
      return onScreen();
    },
    /** The studies in the viewports, as they stand now. */
    onScreen,
    /** Whether every image that was asked for is there. */
    idle() {
      const { numRequests = {}, requestPool = {} } = window.cornerstone.imageLoadPoolManager;
      const under = Object.values(numRequests).reduce((sum, one) => sum + one, 0);
      const waiting = Object.values(requestPool).some((pool) => Object.values(pool).some((list) => list.length > 0));
      return settled && under === 0 && !waiting;
    },
    capture,
    measurements,
    measure,
    annotations: drawings,
    restore,
    sync,
    showImage,
    /** PatientID of the active viewport's images. */
    patient() {
      const displaySet = activeDisplaySet();
      return String((displaySet?.instances?.[0] ?? displaySet?.instance)?.PatientID ?? "");
    },
    jump(imageIndex) {
      commands.runCommand("jumpToImage", { imageIndex });
    },
    run(name, options) {
      return JSON.parse(JSON.stringify(commands.runCommand(name, options ?? {}) ?? null));
    },
    layout(protocolId) {
      return commands.runCommand("setHangingProtocol", { protocolId });
    },
    current() {
      const instance = currentInstance();
      return instance
        ? { study: instance.StudyInstanceUID, series: instance.SeriesInstanceUID, sop: instance.SOPInstanceUID }
        : null;
    },
  };

  window.addEventListener("message", async ({ origin, source, data }) => {
    if (origin !== location.origin || source !== window.parent || data?.hub !== "call") return;
    const { id, name, args = [] } = data;
    try {
      if (!Object.hasOwn(calls, name)) throw new Error(`unknown call ${name}`);
      tell({ hub: "reply", id, ok: true, result: await calls[name](...args) });
    } catch (error) {
      tell({ hub: "reply", id, ok: false, error: String(error?.message ?? error) });
    }
  });

  // Keys of the page around (next exam and the like) work while the frame has the focus.
  window.addEventListener("keydown", (event) => {
    if (event.isComposing || !(event.ctrlKey || event.altKey || /^F\d+$/.test(event.key))) return;
    const { key, ctrlKey, altKey, shiftKey, metaKey } = event;
    tell({ hub: "key", key, ctrlKey, altKey, shiftKey, metaKey });
  });

  // Whoever works with the images has the line to himself.
  let touched = 0;
  let held = false;
  for (const kind of ["pointerdown", "pointerup", "pointercancel"]) {
    window.addEventListener(
      kind,
      () => {
        held = kind === "pointerdown";
      },
      { passive: true, capture: true },
    );
  }
  for (const kind of ["pointerdown", "wheel", "keydown"]) {
    window.addEventListener(
      kind,
      () => {
        if (Date.now() - touched < 1000) return;
        touched = Date.now();
        tell({ hub: "touched" });
      },
      { passive: true, capture: true },
    );
  }

  // When a picture is there before its viewport has a size (a warm cache), Cornerstone takes over a zoom of NaN from a
  // canvas without height and the picture stays black; resetCamera() cannot undo that, the remembered camera can.
  function heal() {
    for (const viewport of services?.cornerstoneViewportService.getRenderingEngine?.()?.getViewports() ?? []) {
      const good = viewport.fitToCanvasCamera ?? viewport.initialCamera;
      if (!good || !Number.isFinite(good.parallelScale)) continue;
      if (Number.isFinite(viewport.getCamera?.().parallelScale)) continue;
      const { viewUp, viewPlaneNormal, position, focalPoint, parallelScale } = good;
      viewport.setCamera({ viewUp, viewPlaneNormal, position, focalPoint, parallelScale });
      viewport.render();
    }
  }

  function healSoon() {
    for (const wait of [0, 100, 300, 1000, 3000]) setTimeout(heal, wait);
  }

  window.addEventListener("resize", healSoon);

  let subscriptions = [];

  function watch() {
    for (const one of subscriptions) one?.unsubscribe?.();
    subscriptions = [];
    const listen = (service, name, handler) => {
      if (service?.EVENTS?.[name]) subscriptions.push(service.subscribe(service.EVENTS[name], handler));
    };
    const { viewportGridService, displaySetService, measurementService, cornerstoneViewportService } = services;
    for (const name of ["ACTIVE_VIEWPORT_ID_CHANGED", "GRID_STATE_CHANGED", "VIEWPORTS_READY"]) {
      listen(viewportGridService, name, reportStudy);
    }
    listen(displaySetService, "DISPLAY_SETS_CHANGED", reportStudy);
    listen(cornerstoneViewportService, "VIEWPORT_DATA_CHANGED", ({ viewportId }) => {
      settled = true;
      self.hubEarly?.stop();
      reportStudy();
      healSoon();
      windowOfPart(viewportId);
      tell({ hub: "shown", viewport: viewportId, studies: onScreen() });
    });
    for (const name of ["MEASUREMENT_ADDED", "MEASUREMENT_UPDATED", "MEASUREMENT_REMOVED", "MEASUREMENTS_CLEARED"]) {
      listen(measurementService, name, measurementsChanged);
    }
  }

  // --- hanging ------------------------------------------------------------------------------------------------------
  // Without a word in the address OHIF takes the best match of PROTOCOLS for the study; a protocol of the address starts
  // at its first stage whatever matches.

  /** A stack begins in its middle and is fetched outwards from there; clips at their first frame. */
  function firstImage(displaySets) {
    const [displaySet] = displaySets ?? [];
    const instances = displaySet?.instances ?? [];
    const wanted = new URLSearchParams(location.search).get("initialSopInstanceUid");
    const place = wanted ? instances.findIndex(({ SOPInstanceUID }) => SOPInstanceUID === wanted) : -1;
    if (place >= 0) return { index: place };
    if (!["CT", "MR", "PT"].includes(displaySet?.Modality) || instances.length < 3) return undefined;
    return { index: Math.floor(instances.length / 2) };
  }

  const images = { weight: 10, attribute: "numImageFrames", constraint: { greaterThan: { value: 0 } } };
  const named = { weight: 20, attribute: "isDisplaySetFromUrl", constraint: { equals: true } };
  const ofStudy = (index) => ({
    attribute: "studyInstanceUIDsIndex",
    from: "options",
    required: true,
    constraint: { equals: { value: index } },
  });
  const modality = (...names) => ({
    weight: 50,
    attribute: "ModalitiesInStudy",
    constraint: { contains: names },
    required: true,
  });

  function view(id, displaySet, options = {}) {
    return {
      viewportOptions: {
        viewportId: id,
        viewportType: "stack",
        toolGroupId: "default",
        allowUnmatchedView: true,
        initialImageOptions: { custom: "hubFirstImage" },
        ...options,
      },
      displaySets: [displaySet],
    };
  }

  function protocol(id, name, { columns = 1, rules = [], selectors, viewports, priors = 0 }) {
    return {
      id,
      name,
      protocolMatchingRules: rules,
      toolGroupIds: ["default"],
      numberOfPriorsReferenced: priors,
      defaultViewport: {
        viewportOptions: { viewportType: "stack", toolGroupId: "default", allowUnmatchedView: true },
        displaySets: [{ id: Object.keys(selectors)[0], matchedDisplaySetsIndex: -1 }],
      },
      displaySetSelectors: selectors,
      stages: [{ name, viewportStructure: { layoutType: "grid", properties: { rows: 1, columns } }, viewports }],
    };
  }

  const any = { studyMatchingRules: [], seriesMatchingRules: [images, named] };
  const protocols = [
    // CT, MR, ultrasound, clips and all else: one viewport.
    protocol("hubStack", t("单幅"), {
      rules: [{ weight: 1, attribute: "StudyInstanceUID", constraint: { notNull: true } }],
      selectors: { any },
      viewports: [view("default", { id: "any" })],
    }),
    // Posterior-anterior and lateral, or two images of a hand.
    protocol("hubXray", t("两幅并排"), {
      columns: 2,
      rules: [
        modality("CR", "DX", "DR", "RG"),
        // OHIF's greaterThan lets the number itself pass: this is "at least two".
        { weight: 50, attribute: "numberOfDisplaySetsWithImages", constraint: { greaterThan: 2 }, required: true },
      ],
      selectors: {
        xray: {
          seriesMatchingRules: [
            { ...images, required: true },
            { weight: 5, attribute: "Modality", constraint: { containsI: ["CR", "DX", "DR", "RG"] } },
          ],
        },
      },
      viewports: [0, 1].map((index) => view(`xray-${index}`, { id: "xray", matchedDisplaySetsIndex: index })),
    }),
    // This exam left, an earlier one right: the order of the studies in the address.
    protocol("hubCompare", t("与既往对比"), {
      columns: 2,
      priors: 1,
      selectors: {
        current: { studyMatchingRules: [ofStudy(0)], seriesMatchingRules: [images, named] },
        prior: { studyMatchingRules: [ofStudy(1)], seriesMatchingRules: [images] },
      },
      viewports: [view("current", { id: "current" }), view("prior", { id: "prior" })],
    }),
  ];
  const PROTOCOLS = ["@ohif/hpMammo", "hubXray", "hubStack"];

  // Windows of the digits 1 to 8, for CT.
  const WINDOWS = [
    ["ct-soft-tissue", t("软组织"), 400, 40],
    ["ct-lung", t("肺"), 1500, -600],
    ["ct-mediastinum", t("纵隔"), 350, 50],
    ["ct-bone", t("骨"), 2500, 480],
    ["ct-brain", t("脑"), 80, 40],
    ["ct-subdural", t("硬膜下"), 200, 75],
    ["ct-liver", t("肝"), 150, 90],
    ["ct-spine", t("脊柱"), 300, 40],
  ];
  const PARTS = [
    [/HEAD|BRAIN|SKULL/i, "ct-brain"],
    [/CHEST|THORAX|LUNG/i, "ct-mediastinum"],
    [/ABDOMEN|LIVER|PELVIS/i, "ct-soft-tissue"],
    [/SPINE/i, "ct-spine"],
    [/EXTREMITY|HAND|FOOT|KNEE|ANKLE|WRIST|ELBOW|SHOULDER|HIP|LEG|ARM/i, "ct-bone"],
  ];

  /** A CT without a window of its device gets that of its body part. */
  function windowOfPart(viewportId) {
    const viewport = services.cornerstoneViewportService.getCornerstoneViewport(viewportId);
    const imageId = viewport?.getCurrentImageId?.();
    const instance = imageId ? window.cornerstone.metaData.get("instance", imageId) : null;
    if (instance?.Modality !== "CT" || instance.WindowWidth !== undefined) return;
    const [, name] = PARTS.find(([part]) => part.test(instance.BodyPartExamined ?? "")) ?? [null, "ct-soft-tissue"];
    const [, , windowWidth, windowCenter] = WINDOWS.find(([id]) => id === name);
    commands.runCommand("setViewportWindowLevel", { viewportId, windowWidth, windowCenter });
  }

  const digits = WINDOWS.map(([presetName, label], presetIndex) => ({
    commandName: "setWindowLevelPreset",
    commandOptions: { presetName, presetIndex },
    label,
    keys: [String(presetIndex + 1)],
  }));

  const hubExtension = {
    id: "hub",
    preRegistration({ servicesManager, commandsManager }) {
      services = servicesManager.services;
      commands = commandsManager;
      tell({ hub: "ready" });
    },
    onModeEnter() {
      lastStudy = "";
      entered += 1;
      unsettle();
      services.hangingProtocolService.addCustomAttribute("hubFirstImage", "The image to begin with", firstImage);
      watch();
    },
    onModeExit: unsettle,
    getHangingProtocolModule() {
      return protocols.map((one) => ({ name: one.id, protocol: one }));
    },
  };

  window.config = {
    name: "hub",
    routerBasename: null,
    extensions: [hubExtension],
    modes: [],
    modesConfiguration: {
      "@ohif/mode-longitudinal": {
        hangingProtocol: { $set: PROTOCOLS },
        // The hub keeps no segmentations: what could not be saved is not offered.
        routes: {
          0: {
            layoutInstance: {
              props: {
                rightPanels: { $set: ["@ohif/extension-measurement-tracking.panelModule.trackedMeasurements"] },
                leftPanelClosed: { $set: window.innerWidth < 1100 },
              },
            },
          },
        },
      },
    },
    customizationService: [
      "@ohif/extension-default.customizationModule.theme",
      {
        "ohif.tours": { $set: [] },
        "cornerstone.windowLevelPresets": {
          CT: { $set: WINDOWS.map(([id, description, width, level]) => ({ id, description, window: String(width), level: String(level) })) },
        },
        "ohif.hotkeyBindings": { $apply: (bindings) => [...bindings.filter(({ commandName }) => commandName !== "setWindowLevelPreset"), ...digits] },
        // Whose images these are, in each viewport: the registered name, and the sender's where it is another.
        "viewportOverlay.topLeft": {
          $unshift: [
            {
              id: "HubPatient",
              inheritsFrom: "ohif.overlayItem",
              label: "",
              title: t("患者"),
              condition: ({ referenceInstance }) => referenceInstance?.PatientName,
              contentF: ({ referenceInstance }) =>
                [plainName(referenceInstance.PatientName), referenceInstance.PatientSex, referenceInstance.PatientAge]
                  .filter(Boolean)
                  .join(" "),
            },
            {
              id: "HubSender",
              inheritsFrom: "ohif.overlayItem",
              label: "",
              title: t("影像中原有的姓名"),
              condition: ({ referenceInstance }) => asSent(referenceInstance),
              contentF: ({ referenceInstance }) => t("影像:{what}").replace("{what}", asSent(referenceInstance)),
            },
          ],
        },
      },
    ],
    showStudyList: false,
    whiteLabeling: { createLogoComponentFn: (React) => React.createElement("span") },
    showPatientInfo: "disabled",
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: false,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    investigationalUseDialog: { option: "never" },
    measurementTrackingMode: "simplified",
    disableConfirmationPrompts: true,
    maxNumberOfWebWorkers: 2,
    maxNumRequests: { interaction: 12, thumbnail: 4, prefetch: 8 },
    studyPrefetcher: { enabled: false },
    httpErrorHandler(error) {
      const status = error?.status ?? error?.request?.status ?? 0;
      tell({ hub: "http-error", status });
    },
    defaultDataSourceName: "hub",
    dataSources: [
      {
        namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
        sourceName: "hub",
        configuration: {
          friendlyName: "hub",
          name: "hub",
          qidoRoot: ROOT,
          wadoRoot: ROOT,
          wadoUriRoot: ROOT,
          qidoSupportsIncludeField: true,
          supportsFuzzyMatching: false,
          supportsWildcard: true,
          supportsReject: false,
          imageRendering: "wadors",
          thumbnailRendering: "wadors",
          enableStudyLazyLoad: true,
          dicomUploadEnabled: false,
          omitQuotationForMultipartRequest: true,
          bulkDataURI: { enabled: true, relativeResolution: "series" },
        },
      },
    ],
  };
})();
