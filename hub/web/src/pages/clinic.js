// Lists of the clinic: search while typing, without losing the place.
const search = document.querySelector("[data-search]");
let timer = 0;
search?.addEventListener("input", (event) => {
  if (event.isComposing) return;
  clearTimeout(timer);
  timer = setTimeout(() => search.form.requestSubmit(), 600);
});
if (search && search.value) {
  search.focus();
  search.setSelectionRange(search.value.length, search.value.length);
}
// Empty filters do not belong into the address.
search?.form.addEventListener("submit", () => {
  for (const field of search.form.elements) {
    if (field.name && field.type !== "checkbox" && !field.value) field.disabled = true;
  }
});
addEventListener("pageshow", () => {
  for (const field of search?.form.elements ?? []) field.disabled = false;
});
