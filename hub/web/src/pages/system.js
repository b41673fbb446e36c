// The operator's page: another try for jobs that were given up.
import { post } from "../api.js";

document.querySelector("[data-retry]")?.addEventListener("click", async () => {
  await post("/api/system/jobs/retry");
  location.reload();
});
