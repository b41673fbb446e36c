// Resumable upload (tus 1.0) with Uppy's core: pages import from here, so that the choice stands in one place.
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";

export { Uppy, Tus };
export * as tus from "tus-js-client";
