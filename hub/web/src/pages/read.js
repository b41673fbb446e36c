// The reading page: OHIF in its frame, the report beside it. The viewer stays while exams come and go.
// One line for each feature, in the order in which their handlers run.
import * as checks from "../read/checks.js";
import * as copied from "../read/copied.js";
import * as critical from "../read/critical.js";
import * as drafts from "../read/drafts.js";
import * as drawings from "../read/drawings.js";
import * as editor from "../read/editor.js";
import * as exchange from "../read/exchange.js";
import * as flags from "../read/flags.js";
import * as keyimages from "../read/keyimages.js";
import * as lease from "../read/lease.js";
import { page } from "../read/page.js";
import * as passages from "../read/passages.js";
import * as priors from "../read/priors.js";
import * as queue from "../read/queue.js";
import * as review from "../read/review.js";
import * as saved from "../read/saved.js";
import * as scoring from "../read/scoring.js";
import * as signing from "../read/signing.js";
import * as versions from "../read/versions.js";
import * as viewer from "../read/viewer.js";
import * as writing from "../read/writing.js";

for (const feature of [
  viewer,
  drawings,
  lease,
  queue,
  flags,
  critical,
  keyimages,
  writing,
  copied,
  // Compares the form with what this browser kept: after all that fills the form.
  drafts,
  editor,
  priors,
  review,
  saved,
  versions,
  exchange,
  passages,
  checks,
  scoring,
  signing,
]) {
  feature.attach(page);
}

page.start();
